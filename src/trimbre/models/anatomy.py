"""The anatomy of a model: its groups of prunable units, described as data.

A group is what is cut together: the units of a residual branch, which may lose all of them and may be skipped; the
channels between two convolutions of a front end, of which at least one stays; or the ranks of a factored projection.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from trimbre.errors import UserError
from trimbre.plan import Plan

Positions: TypeAlias = Literal["inputs", "frames", "tokens"]
"""What the positions of a sequence inside a model are: of its input, at whatever rate a front end has them; output
frames of the audio; or tokens of the text that a decoder reads."""


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
    """How groups of one sort are cut: the tensors that the units lie in and the projection that reads them."""

    name: str
    """Unique among the model's kinds: two whose units differ in width or in their tensors have two names."""
    unit: str
    """What one of its units is called."""
    slices: tuple[Slice, ...]
    consumer: str
    """The linear layer or ungrouped convolution that reads the units' outputs, relative to the module: gates multiply
    its input."""
    channel_axis: int = -1
    """The dimension of the consumer's input that the units lie along, `rows` each."""
    rows: int = 1
    attributes: Mapping[str, int] = field(default_factory=dict)
    """Attributes of the module to set at the cut, with their value per unit; `config.x` in its view of the config."""
    parts: tuple[str, ...] = ()
    """The modules that the units lie in, where that is not one module: children of the path's parent, which `slices`
    and `consumer` are then relative to."""
    outputs: int = 1
    """How many values the module's forward returns; the first is the residual branch's output."""
    products: Callable[[int, int], int] = lambda positions, source: 0
    """Multiply-accumulates of one unit between activations (no weight involved), for so many positions of the
    consumer's input and of what is attended to."""
    per_unit: tuple[str, ...] = ()
    """Projections that are applied once for every unit: their arithmetic leaves with it, and their weights stay."""
    source: str = ""
    """The projection whose positions are what is attended to; by default the consumer's own."""

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
    """Units of a model that are cut together; a residual branch unless `block` is empty."""

    path: str
    """Path of its module; where it is made of several (`Kind.parts`), that of their parent and a name for them."""
    kind: Kind
    layer: int | None
    """Number of the block that it is in; None outside the blocks."""
    size: int
    """Units it has now."""
    norm: str | None = None
    """Path of the branch's pre-norm, which leaves with it; None where it's a part of the module."""
    after: str = ""
    """Path of the module whose input is the residual stream after the branch."""
    block: str = ""
    """Path of the block that it is a branch of."""
    positions: Positions = "frames"
    """What the consumer's input has positions of."""
    skippable: bool = True
    """Whether it can leave altogether, as a residual branch can: what is around it goes on without it."""
    least: int = 0
    """Units that stay unless it is skipped."""

    @property
    def residual(self) -> bool:
        """Whether it is a residual branch."""
        return bool(self.block)

    @property
    def home(self) -> str:
        """Path of the module that the kind's names are relative to."""
        return self.path.rpartition(".")[0] if self.kind.parts else self.path

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of the modules that leave when the group is skipped, without the norm; none if it cannot be."""
        if not self.skippable:
            return ()
        return tuple(f"{self.home}.{part}" for part in self.kind.parts) or (self.path,)

    @property
    def consumer(self) -> str:
        """Path of the projection that reads the units; its output is that of a residual branch."""
        return f"{self.home}.{self.kind.consumer}"


class Rows(NamedTuple):
    """The rows of a vocabulary: one of the embedding and one of the projection to logits, often the same, each."""

    tokens: int
    parameters: int
    """Of one token's row or rows."""


@dataclass(frozen=True)
class Anatomy:
    """All that can be cut from one model."""

    groups: tuple[Group, ...]
    scopes: Mapping[str, Any]
    """Name prefixes, one or a tuple, of the parameters that a percentage may refer to: `blocks`, `model` and others."""
    follow: Callable[[Any, Any], None] = lambda model, plan: None
    """Brings what else refers to units in a cut model (first argument) in line with the plan (second), in place."""
    untouched: Mapping[str, Any] = field(default_factory=dict)
    """Scope -> name prefixes of the parameters that stay as they are where a share of that scope is to leave."""
    rows: Rows | None = None
    """The vocabulary, where rows of tokens that a language never uses can be removed; None where they cannot."""

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

    def check(self, plan: Plan) -> None:
        """Raise UserError for a plan of a model of another shape, or one that removes what has to stay."""
        if dict(plan.sizes) != self.sizes:
            named = (*plan.sizes, *self.sizes)
            odd = next(path for path in named if plan.sizes.get(path) != self.sizes.get(path))
            raise UserError(f"the plan does not fit this model at {odd}: make the plan for the model that it is to cut")
        if plan.vocabulary is not None and (self.rows is None or plan.vocabulary.size != self.rows.tokens):
            raise UserError("the plan does not fit this model at its vocabulary: make the plan for the model to cut")
        for group in self.groups:
            skipped = group.path in plan.skipped
            if skipped and not group.skippable:
                raise UserError(f"the plan skips {group.path}, without which the model cannot run: keep some of it")
            if not skipped and len(plan.kept[group.path]) < min(group.least, group.size):
                raise UserError(
                    f"the plan keeps {len(plan.kept[group.path])} {group.kind.unit}s of {group.path}, which needs "
                    f"{group.least}: keep as many"
                )

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The kinds that occur, by name."""
        return {group.kind.name: group.kind for group in self.groups}
