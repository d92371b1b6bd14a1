"""An exported graph with its matrix products in int8, by ONNX Runtime's own tools."""

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS: dict[str, Any] = {
    "op_types_to_quantize": ["MatMul", "Gemm"],
    # The products of attention have two sides that are computed, and lose more than they gain.
    "extra_options": {"MatMulConstBOnly": True},
    # A scale for each column of a weight costs nothing at run time.
    "per_channel": True,
    # Seven bits would only help processors that add pairs of products in 16 bits (AVX2 without VNNI).
    "reduce_range": False,
}


def quantise(graph: Path, out: Path, *, calibration: Iterable[Mapping[str, np.ndarray]] | None = None) -> None:
    """Write a copy of a graph whose products with weights are computed in int8.

    Weights are signed and symmetric, with a scale per column. Depthwise convolutions, the front end's convolutions,
    norms and the products of attention stay in float32: few weights, and most of the error.

    Args:
        graph: a float32 ONNX file, as `graph.write_graph` writes it.
        out: the file to write.
        calibration: batches of inputs of real speech: the range of every activation is taken from them, once (static).
            Without them each activation's range is taken anew in every call (dynamic), which needs no data and costs
            a pass over it.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationMethod
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, _quiet():
        if calibration is None:
            quantize_dynamic(graph, out, weight_type=QuantType.QInt8, **SETTINGS)
        else:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(graph, prepared, skip_symbolic_shape=True, skip_optimization=True)
            quantize_static(
                prepared,
                out,
                _Reader(calibration),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                **SETTINGS,
            )


class _Reader:
    """Batches in the form that ONNX Runtime's calibration asks for them."""

    def __init__(self, batches: Iterable[Mapping[str, np.ndarray]]):
        self.batches = iter(batches)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self.batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime's hints at what could be done before off the terminal: it has been done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
