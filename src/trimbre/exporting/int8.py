"""An exported graph with its matrix products in int8, by ONNX Runtime's own tools."""

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
    # The products of attention have two sides that are computed, and lose more than they gain.
    "extra_options": {"MatMulConstBOnly": True},
    # A scale for each column of a weight costs nothing at run time.
    "per_channel": True,
    # Processors without VNNI (AVX2) add pairs of products in 16 bits, which eight bits overflow without a word.
    "reduce_range": True,
}


def quantise(graph: Path, out: Path, *, calibration: Iterable[Mapping[str, np.ndarray]] | None = None) -> None:
    """Write a copy of a graph whose products with weights are computed in int8.

    Weights are signed and symmetric, with a scale per column. Depthwise convolutions, the front end's convolutions,
    norms and the products of attention stay in float32: few weights, and most of the error. The first convolution has
    to: it masks by a weight far above the others.

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
    """The graph, or a copy of it in `folder` in which no product is with a transposed weight, for such stay in float32.

    The exporter leaves those that embed tokens as well, as a decoder's projection to labels does.
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
    """Let tokens be embedded by the int8 columns of the projection to labels: the table of both is in there once."""
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
