"""Export of a model of transformers to one ONNX graph, which is compared with the model."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimbre.errors import UserError
from trimbre.exporting.targets import OnnxGraph
from trimbre.exporting.traceable import exportable

EQUAL = 1e-4
"""Largest accepted distance of a graph's output from the model's, relative to its norm, in float32."""
OPSET = 18
SINGLE_FILE = 1_800_000_000  # bytes; protobuf is limited to 2 GiB, so more weights go to a file of their own
NOISY = ("torch.onnx", "torch.__trace", "onnxscript", "onnx_ir")


def write_graph(model: PreTrainedModel, graph: OnnxGraph, path: Path) -> float:
    """Export `model`, or a part of it, to one ONNX file at `path` and compare the two.

    Returns:
        The largest relative distance of the graph's outputs from the model's, over its trials.

    Raises:
        UserError: it is above `EQUAL`, or the model cannot be exported.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    names = list(graph.example)
    # Sizes that inputs share have one name, by which the exporter knows that they are equal.
    dynamic = tuple({axis: torch.export.Dim(size) for axis, size in graph.sizes[name].items()} for name in names)
    wrapped = AnyNumber(graph.wrap(exportable(model.eval()))).eval()
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                wrapped,
                tuple(graph.example.values()),
                dynamo=True,
                dynamic_shapes=(dynamic,),
                input_names=names,
                output_names=list(graph.outputs),
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise UserError(f"{type(model).__name__} cannot be exported to ONNX: {error}") from error
        assert program is not None
        ClearMetadataAndDocStringPass()(program.model)  # stack traces, with paths of this machine
        _keep_from_fusion(program.model)
        program.model.metadata_props.update(graph.metadata)
        size = sum(parameter.nbytes for parameter in wrapped.parameters())
        program.save(path, external_data=size > SINGLE_FILE)
    return check_graph(graph, path)


def _keep_from_fusion(model: Any) -> None:
    """Replace `Add` by `Sum` where its only consumer is a layer norm, so that ONNX Runtime does not fuse the two.

    The fused kernel takes several times as long as the two kernels.
    """
    for node in model.graph:
        if node.op_type == "Add":
            uses = [use.node.op_type for use in node.outputs[0].uses()]
            if uses == ["LayerNormalization"]:
                node.op_type = "Sum"


class AnyNumber(nn.Module):
    """A wrapper whose forward takes any number of positional inputs."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)


def check_graph(graph: OnnxGraph, path: Path) -> float:
    """Compare an ONNX file with the model in every trial.

    Returns:
        The largest distance over norm.

    Raises:
        UserError: it is above `EQUAL`.
    """
    distance = max(distances(graph, path))
    if not distance <= EQUAL:
        raise UserError(
            f"the exported graph differs from the model by {distance:.1e} of its output's norm, and rounding explains "
            f"{EQUAL:.0e}: nothing was written; please report this with your versions of torch and onnxruntime"
        )
    return distance


@torch.no_grad()
def distances(graph: OnnxGraph, path: Path) -> Iterator[float]:
    """Relative distances of an ONNX file's outputs from the model's, the largest of each trial."""
    from trimbre.exporting.session import session

    running = session(path, threads=torch.get_num_threads())
    for feed, expected, valid in graph.trials():
        found = running.run(list(expected), {name: value.numpy() for name, value in feed.items()})
        yield max(
            _distance(torch.from_numpy(one), other, valid) for one, other in zip(found, expected.values(), strict=True)
        )


def _distance(found: Tensor, expected: Tensor, valid: Tensor | None) -> float:
    if found.shape != expected.shape:
        return math.inf
    if valid is not None:
        found, expected = found[valid], expected[valid]
    distance = (found - expected).norm()
    relative = float(distance / expected.norm()) if distance else 0.0
    return math.inf if math.isnan(relative) else relative  # max() of several would skip NaN


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages about its own internals."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
