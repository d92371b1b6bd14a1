"""Export targets: the graphs, inputs, outputs and files that a runtime expects of a model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.errors import OptionError
from trimbre.models.families.registry import family_of


class Trial(NamedTuple):
    """One call of a graph with the model's own outputs, which the graph is compared with."""

    feed: Mapping[str, Tensor]
    """Inputs, by name."""
    expected: Mapping[str, Tensor]
    """Outputs of the model, by name."""
    valid: Tensor | None = None
    """Frames that are compared, (batch, frames) bool; None for all."""


@dataclass(frozen=True)
class OnnxGraph:
    """One ONNX file: how it is traced and what it is compared with."""

    name: str
    """Name of the file, without its ending."""
    sizes: Mapping[str, Mapping[int, str]]
    """Inputs in order; for each, the names of its dynamic axes."""
    outputs: tuple[str, ...]
    """Outputs in order."""
    wrap: Callable[[PreTrainedModel], nn.Module]
    """The model -> a module with these inputs, as positional arguments, and these outputs."""
    example: Mapping[str, Tensor]
    """Inputs to trace the module with."""
    trials: Callable[[], Iterator[Trial]]
    """Calls that the graph is compared with the model on; a new iterator each time."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Metadata in the ONNX file."""


@dataclass(frozen=True)
class Layout:
    """A model as one runtime expects it."""

    graphs: tuple[OnnxGraph, ...]
    described: Mapping[str, Any]
    """Everything needed to run the graphs, as plain data for export.json; `exporting.runtime` reads it."""
    first_gap: Callable[[Any, Mapping[str, Tensor]], float | None]
    """The exported model, inputs of one clip -> how far apart for the model two labels are, relative to its largest
    score, where the texts of the two begin to differ; None for equal texts."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further files that the runtime reads, name -> text."""
    feed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None
    """The processor's output -> the graph's inputs, where there is one graph; None where there are several."""


def layout_for(
    to: str,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    language: str | None = None,
    task: str | None = None,
) -> Layout:
    """The layout of a model for a runtime.

    Args:
        language, task: what texts are written in, for models that are told it; None is the model's own.

    Raises:
        UserError: that runtime cannot run it, or the model cannot be given that language or task.
    """
    family = family_of(model)
    if to not in family.runtimes:
        others = f"give {' or '.join(family.runtimes)}" if family.runtimes else "no runtime here does"
        raise OptionError("to", to, f"it does not run a {type(model).__name__}; {others}")
    exporter = f"trimbre.exporting.{family.exporter or family.head.name}"
    if find_spec(exporter) is None:
        raise OptionError("to", to, f"no exporter knows the graphs of a {type(model).__name__}: name one in its Family")
    family.head.check_asked(model, processor, language=language, task=task)
    return import_module(exporter).layout(to, model, processor, language=language, task=task)


def noise(seconds: Sequence[float], rate: int) -> list[np.ndarray]:
    """Clips of noise of rising amplitude, (samples,) each at `rate` Hz."""
    draw = np.random.default_rng(0)
    sizes = [round(length * rate) for length in seconds]
    return [(draw.standard_normal(size) * np.linspace(0.02, 0.2, size)).astype(np.float32) for size in sizes]
