"""What a runtime expects of a model: its graphs, their inputs and outputs, and the files beside them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.errors import OptionError
from trimbre.models.families.registry import family_of
from trimbre.models.inputs import SAMPLE_RATE


class Trial(NamedTuple):
    """One call of a graph, and what the model itself makes of it."""

    feed: Mapping[str, Tensor]
    """What goes in, by name."""
    expected: Mapping[str, Tensor]
    """What should come out, by name."""
    valid: Tensor | None = None
    """Which frames of it count, (batch, frames); None for all."""


@dataclass(frozen=True)
class Graph:
    """One ONNX file."""

    name: str
    """Of the file, without its ending."""
    sizes: Mapping[str, Mapping[int, str]]
    """Inputs in order, and the axes of each that have any size, by name."""
    outputs: tuple[str, ...]
    """In order."""
    wrap: Callable[[PreTrainedModel], nn.Module]
    """The model as a module that takes these inputs, one by one, and gives these outputs."""
    example: Mapping[str, Tensor]
    """Inputs to follow through the module."""
    trials: Callable[[], Iterator[Trial]]
    """Calls that the graph is judged by, anew each time."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What is written into the ONNX file itself."""


@dataclass(frozen=True)
class Layout:
    """A model as one runtime wants it."""

    graphs: tuple[Graph, ...]
    described: Mapping[str, Any]
    """What one must know to run the graphs, as plain data; `exporting.runtime` runs them by this."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The files, name to text, that the runtime wants beside the graphs."""
    feed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None
    """What the processor gives -> what the graph takes, where one graph does it all; None where there are several."""


def layout_for(to: str, model: PreTrainedModel, processor: ProcessorMixin) -> Layout:
    """How the runtime `to` wants this model.

    Raises:
        UserError: that runtime cannot run it.
    """
    family = family_of(model)
    if to not in family.runtimes:
        others = f"give {' or '.join(family.runtimes)}" if family.runtimes else "no runtime here does"
        raise OptionError("to", to, f"it does not run a {type(model).__name__}; {others}")
    return import_module(f"trimbre.exporting.{family.exporter or family.head.name}").layout(to, model, processor)


def noise(seconds: Sequence[float]) -> list[np.ndarray]:
    """Clips of noise that swells, (samples,) each."""
    draw = np.random.default_rng(0)
    sizes = [int(length * SAMPLE_RATE) for length in seconds]
    return [(draw.standard_normal(size) * np.linspace(0.02, 0.2, size)).astype(np.float32) for size in sizes]
