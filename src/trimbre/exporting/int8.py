"""Quantisation of an exported graph: matrix products in int8, by ONNX Runtime's own tools."""

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

SETTINGS: dict[str, Any] = {
    "op_types_to_quantize": ["MatMul", "Gemm"],
    # Attention's products have two activations as inputs; quantising them costs more accuracy than time it saves.
    "extra_options": {"MatMulConstBOnly": True},
    # One scale for each column of a weight costs nothing at run time.
    "per_channel": True,
    # Processors without VNNI (AVX2) add pairs of products in 16 bits, which 8-bit weights overflow silently.
    "reduce_range": True,
}


def quantise(graph: Path, out: Path, *, calibration: Iterable[Mapping[str, np.ndarray]] | None = None) -> None:
    """Write a copy of a graph whose products with weights are computed in int8.

    Weights are signed and symmetric, with a scale per column. Depthwise convolutions, the front end's convolutions,
    norms and the products of attention stay in float32: they have few weights and cause most of the error. The first
    convolution has to stay in float32, since one of its weights, for masking, is far above the others.

    Args:
        graph: a float32 ONNX file, as `onnx.write_graph` writes it.
        out: the file to write.
        calibration: batches of inputs of real speech for static ranges of activations. Without them ranges are dynamic:
            computed in every call, which needs no data and costs a pass over each activation.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationMethod
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, _quiet():
        graph = _untied(graph, Path(folder))
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
        _tie_again(out)


def _untied(path: Path, folder: Path) -> Path:
    """The graph, or a copy of it in `folder` without products with transposed weights, which would stay in float32.

    The exporter leaves a transposition where a weight also embeds tokens, as a decoder's output projection does.
    """
    model = onnx.load(path)
    weights = {weight.name: weight for weight in model.graph.initializer}
    turned = [node for node in model.graph.node if node.op_type == "Transpose" and node.input[0] in weights]
    if not turned:
        return path
    for node in turned:
        weight = onnx.numpy_helper.to_array(weights[node.input[0]]).T
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(np.ascontiguousarray(weight), _turned(node.input[0]))
        )
        for other in model.graph.node:
            other.input[:] = [_turned(node.input[0]) if name == node.output[0] else name for name in other.input]
        model.graph.node.remove(node)
    onnx.save(model, folder / "untied.onnx")
    return folder / "untied.onnx"


def _tie_again(path: Path) -> None:
    """Embed tokens by the int8 columns of the output projection, so that the tied table is stored once."""
    model = onnx.load(path)
    names = {weight.name for weight in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    gone: set[str] = set()
    for node in model.graph.node:
        table = node.input[0] if node.op_type == "Gather" else ""
        quantised, scale = f"{_turned(table)}_quantized", f"{_turned(table)}_scale"
        if not {table, quantised, scale} <= names:
            nodes.append(node)
            continue
        ids, made, gone = node.input[1], node.output[0], gone | {table}
        steps: list[tuple[str, list[str], dict[str, Any]]] = [
            ("Gather", [quantised, ids], {"axis": 1}),
            ("Cast", [f"{made}_0"], {"to": onnx.TensorProto.FLOAT}),
            ("Transpose", [f"{made}_1"], {"perm": [1, 2, 0]}),
            ("Gather", [scale, ids], {}),
            ("Unsqueeze", [f"{made}_3", f"{made}_last"], {}),
            ("Mul", [f"{made}_2", f"{made}_4"], {}),
        ]
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), f"{made}_last"))
        for number, (kind, given, how) in enumerate(steps):
            output = made if kind == "Mul" else f"{made}_{number}"
            nodes.append(onnx.helper.make_node(kind, given, [output], f"{made}_{number}", **how))
    if gone:
        kept = [weight for weight in model.graph.initializer if weight.name not in gone]
        model.graph.ClearField("node")
        model.graph.node.extend(nodes)
        model.graph.ClearField("initializer")
        model.graph.initializer.extend(kept)
        onnx.save(model, path)


def _turned(weight: str) -> str:
    return f"{weight}_transposed"


class _Reader:
    """Batches as ONNX Runtime's calibration reads them."""

    def __init__(self, batches: Iterable[Mapping[str, np.ndarray]]):
        self.batches = iter(batches)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self.batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence ONNX Runtime's hints at preprocessing, which has been done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
