"""From a model of transformers to one ONNX graph, compared with the model itself before anyone sees it."""

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
from trimbre.exporting.targets import Graph
from trimbre.exporting.traceable import exportable

EQUAL = 1e-4
"""How far, relative to its norm, a graph's output may be from the model's in any trial, in float32."""
OPSET = 18
SINGLE_FILE = 1_800_000_000  # bytes; a protobuf file ends at 2 GiB, so more weights stand in a file beside it
NOISY = ("torch.onnx", "torch.__trace", "onnxscript", "onnx_ir")


def write_graph(model: PreTrainedModel, graph: Graph, path: Path) -> float:
    """Export `model`, or a part of it, to one ONNX file at `path` and compare the two.

    Returns:
        The largest relative distance of the graph's outputs from the model's, over its trials.

    Raises:
        UserError: it is above `EQUAL`, or the model cannot be exported.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    names = list(graph.example)
    # Sizes that several inputs share bear one name, so that the exporter knows them for the same.
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
        ClearMetadataAndDocStringPass()(program.model)  # traces into source files, and their places on this machine
        _keep_apart(program.model)
        program.model.metadata_props.update(graph.metadata)
        size = sum(parameter.nbytes for parameter in wrapped.parameters())
        program.save(path, external_data=size > SINGLE_FILE)
    return check_graph(graph, path)


def _keep_apart(model: Any) -> None:
    """Call a sum that goes into a norm alone `Sum`, which ONNX Runtime doesn't fuse with the norm.

    Its kernel for the two together takes several times as long as one after the other.
    """
    for node in model.graph:
        if node.op_type == "Add":
            uses = [use.node.op_type for use in node.outputs[0].uses()]
            if uses == ["LayerNormalization"]:
                node.op_type = "Sum"


class AnyNumber(nn.Module):
    """A module whose inputs are in one list, whatever it calls them and however many it takes."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)


def check_graph(graph: Graph, path: Path) -> float:
    """Compare an ONNX file with the model in every trial.

    Returns:
        The largest distance over norm.

    Raises:
        UserError: it is above `EQUAL`.
    """
    distance = max(distances(graph, path))
    if not distance <= EQUAL:
        raise UserError(
            f"the exported graph differs from the model by {distance:.1e} of its output, and only {EQUAL:.0e} is "
            "rounding: nothing was written; please report this with your versions of torch and onnxruntime"
        )
    return distance


@torch.no_grad()
def distances(graph: Graph, path: Path) -> Iterator[float]:
    """The relative distance of an ONNX file's outputs from the model's, the farthest one of each trial."""
    from trimbre.exporting.session import session

    running = session(path, threads=torch.get_num_threads())
    for feed, expected, valid in graph.trials():
        found = running.run(list(expected), {name: value.numpy() for name, value in feed.items()})
        yield max(
            _apart(torch.from_numpy(one), other, valid) for one, other in zip(found, expected.values(), strict=True)
        )


def _apart(found: Tensor, expected: Tensor, valid: Tensor | None) -> float:
    if found.shape != expected.shape:
        return math.inf
    if valid is not None:
        found, expected = found[valid], expected[valid]
    distance = (found - expected).norm()
    relative = float(distance / expected.norm()) if distance else 0.0
    return math.inf if math.isnan(relative) else relative  # the largest of several would pass NaN over


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own insides to itself."""
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
