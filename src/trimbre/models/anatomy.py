"""What can be cut: every family of models describes its prunable modules as data, in one short file each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Slice(NamedTuple):
    """How a tensor is divided among the units of its module."""

    tensor: str
    """Dotted name, relative to the module."""
    axis: int
    """The dimension that the units lie along."""
    rows: int = 1
    """Consecutive entries that one unit owns (a head: its width)."""
    repeats: int = 1
    """How often the run of all units recurs along the axis (a gated linear unit: 2)."""


@dataclass(frozen=True)
class Kind:
    """A sort of module that is cut in one way: feed-forward, attention, convolution."""

    name: str
    """Its own among the model's kinds: two whose units differ in width bear two names."""
    unit: str
    """What one of its units is called."""
    slices: tuple[Slice, ...]
    consumer: str
    """The projection that reads the units' outputs, relative to the module: the gates sit on its input."""
    channel_axis: int = -1
    """The dimension of the consumer's input that the units lie along, `rows` each."""
    rows: int = 1
    attributes: Mapping[str, int] = field(default_factory=dict)
    """Attributes of the module to set at the cut, with their value per unit; `config.x` in its view of the config."""
    parts: tuple[str, ...] = ()
    """The modules that the branch is made of, where it is none of its own: children of the block, which `slices` and
    `consumer` are then relative to."""
    outputs: int = 1
    """How many values the module's forward returns; the first is the residual branch's output."""
    products: Callable[[int], int] = lambda frames: 0
    """Multiply-accumulates of one unit between activations (no weight involved), for so many frames."""

    def to_json(self) -> dict[str, Any]:
        """What rebuilding a cut module needs, as `modeling_trimbre.narrow` reads it."""
        return {
            "slices": [list(row) for row in self.slices],
            "consumer": self.consumer,
            "attributes": dict(self.attributes),
            "outputs": self.outputs,
            "parts": list(self.parts),
        }


@dataclass(frozen=True)
class Group:
    """One residual branch of a model, and its units."""

    path: str
    """Path of its module; where it is made of several, that of their block and a name for them."""
    kind: Kind
    layer: int
    size: int
    """Units it has now."""
    norm: str | None
    """Path of the branch's pre-norm, which leaves with it; None where it's a part of the module."""
    after: str
    """Path of the module whose input is the residual stream after the branch."""
    block: str
    """Path of the block that it is a branch of."""
    written: bool = False
    """Whether the stream's positions are tokens of a text, which a decoder reads, and not frames of the audio."""

    @property
    def home(self) -> str:
        """Path of the module that the kind's names are relative to."""
        return self.path.rpartition(".")[0] if self.kind.parts else self.path

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of the modules that leave when the branch is skipped, but for the norm."""
        return tuple(f"{self.home}.{part}" for part in self.kind.parts) or (self.path,)

    @property
    def consumer(self) -> str:
        """Path of the projection that reads the units: its output is the branch's."""
        return f"{self.home}.{self.kind.consumer}"


@dataclass(frozen=True)
class Anatomy:
    """All that can be cut from one model."""

    groups: tuple[Group, ...]
    scopes: Mapping[str, Any]
    """Name prefixes, one or a tuple, of the parameters that a percentage may refer to: `blocks`, `model` and others."""
    follow: Callable[[Any, Any], None] = lambda model, plan: None
    """Brings what else speaks of units in a cut model (first argument) in line with the plan (second), in place."""
    untouched: Mapping[str, Any] = field(default_factory=dict)
    """Scope -> name prefixes of the parameters that stay as they are where a share of that scope is to leave."""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Units of every group, by path."""
        return {group.path: group.size for group in self.groups}

    def within(self, scope: str) -> tuple[Group, ...]:
        """The groups whose parameters a share of `scope` counts."""
        return tuple(group for group in self.groups if group.path.startswith(self.scopes[scope]))

    @cached_property
    def owner(self) -> Tensor:
        """(units,) index of the group that each unit belongs to, all groups' units in a row."""
        sizes = torch.tensor([group.size for group in self.groups], dtype=torch.long)
        return torch.repeat_interleave(torch.arange(len(sizes)), sizes)

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The kinds that occur, by name."""
        return {group.kind.name: group.kind for group in self.groups}
