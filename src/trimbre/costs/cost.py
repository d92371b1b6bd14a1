"""What a plan costs: one function for the expected cost of gates and for the exact cost of a cut model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from trimbre.models.anatomy import Anatomy
from trimbre.plan import Plan

TITLES = {"params": "parameters", "macs": "multiply-accumulates", "latency": "measured time"}
"""What each budget counts, in words."""


@dataclass(frozen=True)
class Cost:
    """A cost that is linear in each group's width while the group is there.

    cost = fixed + sum over groups of open * (branch + unit * width), with `open` the probability that the branch stays
    and `width` the units expected to stay in it. With 0/1 gates it is exact.
    """

    fixed: float
    """What no group can change."""
    branch: Tensor
    """(groups,) float64: what a group costs however narrow it is."""
    unit: Tensor
    """(groups,) float64: what one of its units costs."""
    paths: tuple[str, ...]
    """The groups by name, in the order of these tensors."""

    def __call__(self, widths: Tensor, opens: Tensor) -> Tensor:
        """Cost for expected widths and survivals; a scalar, differentiable in both.

        Args:
            widths: (groups,) units expected in a group while it is there.
            opens: (groups,) probability that a group is there.
        """
        return self.fixed + (opens * (self.branch + self.unit * widths)).sum()

    def of(self, plan: Plan) -> float:
        """Exact cost of the model that `plan` leaves."""
        widths = torch.tensor([float(plan.widths[path]) for path in self.paths], dtype=torch.float64)
        opens = torch.tensor([float(path not in plan.skipped) for path in self.paths], dtype=torch.float64)
        return float(self(widths, opens))


@dataclass(frozen=True)
class SharedCost(Cost):
    """A cost with tensors that two groups divide between them, as a convolution between two sets of channels.

    To the linear cost, in which `unit` counts each shared tensor for both groups at the other's full width, it adds
    product * (a b - a B - b A), with a and b the expected widths of the two groups and A and B their full ones.
    """

    pairs: Tensor
    """(tensors, 2) the groups that divide each shared tensor."""
    sizes: Tensor
    """(tensors, 2) float64: their full widths."""
    products: Tensor
    """(tensors,) float64: what one unit of the one group costs with one unit of the other."""

    def __call__(self, widths: Tensor, opens: Tensor) -> Tensor:
        own = (opens * widths)[self.pairs]
        shared = own.prod(1) - (own * self.sizes.flip(1)).sum(1)
        return super().__call__(widths, opens) + (self.products * shared).sum()


@dataclass(frozen=True)
class PiecewiseLinearCost(Cost):
    """A cost that is piecewise linear in each group's width, and zero at width zero.

    cost = fixed + sum over groups of open * curve(width). `branch` is zero, and `unit` the mean cost of a unit.
    """

    starts: Tensor
    """(groups, pieces) float64: the width at which each piece begins."""
    lengths: Tensor
    """(groups, pieces) float64: how many units it is long."""
    slopes: Tensor
    """(groups, pieces) float64: what one more unit costs along it."""

    def __call__(self, widths: Tensor, opens: Tensor) -> Tensor:
        along = (widths.unsqueeze(1) - self.starts).clamp_min(0).minimum(self.lengths)
        return self.fixed + (opens * (along * self.slopes).sum(1)).sum()


def piecewise_linear(
    fixed: float, curves: Sequence[Sequence[tuple[float, float]]], sizes: Mapping[str, int]
) -> PiecewiseLinearCost:
    """A cost from the curve of every group.

    Args:
        curves: (width, cost) points of every group, ascending and above width 0.
        sizes: units of every group in the dense model, by path.
    """
    pieces = max((len(curve) for curve in curves), default=0)
    starts, lengths, slopes = (torch.zeros(len(curves), pieces, dtype=torch.float64) for _ in range(3))
    for group, curve in enumerate(curves):
        for piece, ((low, before), (high, after)) in enumerate(pairwise([(0.0, 0.0), *curve])):
            starts[group, piece], lengths[group, piece] = low, high - low
            slopes[group, piece] = (after - before) / (high - low)
    whole = torch.tensor(list(sizes.values()), dtype=torch.float64)
    nothing = torch.zeros_like(whole)
    at_full = ((whole.unsqueeze(1) - starts).clamp_min(0).minimum(lengths) * slopes).sum(1)
    return PiecewiseLinearCost(fixed, nothing, at_full / whole.clamp_min(1), tuple(sizes), starts, lengths, slopes)


@dataclass(frozen=True)
class Budget:
    """A cost to reduce, as a share of the dense model's within a scope."""

    name: str
    """`params`, `macs` or `latency`."""
    scope: str
    """The denominator, by its name in `Anatomy.scopes`."""
    cost: Cost
    dense: float
    """Cost of the dense model."""

    @property
    def title(self) -> str:
        """What it counts, in words, such as `the blocks' parameters`."""
        owner = f"the {self.scope}'" if self.scope.endswith("s") else f"the {self.scope}'s"
        return f"{owner} {TITLES[self.name]}"

    def removed(self, plan: Plan) -> float:
        """Share of the dense cost that `plan` removes, 0 to 1."""
        return 1 - self.cost.of(plan) / self.dense


def accumulate(anatomy: Anatomy, tensors: Mapping[str, tuple[float, str | None, float]], scope: str) -> Cost:
    """Sum the costs of named tensors by the group that they belong to.

    Args:
        tensors: name -> (cost at full width, path of the owning group or None, units that the tensor is divided among,
            0 where it leaves only with the whole branch).
        scope: the part of the model to count, a name of `Anatomy.scopes`.
    """
    index = {group.path: position for position, group in enumerate(anatomy.groups)}
    fixed = 0.0
    branch = torch.zeros(len(index), dtype=torch.float64)
    unit = torch.zeros(len(index), dtype=torch.float64)
    shared = shared_tensors(anatomy)
    pairs: list[tuple[int, int]] = []
    products: list[float] = []
    for name, (cost, owner, units) in tensors.items():
        if not name.startswith(anatomy.scopes[scope]):
            continue
        if name in shared:
            one, other = (index[path] for path in shared[name])
            for position in (one, other):
                unit[position] += cost / anatomy.groups[position].size
            pairs.append((one, other))
            products.append(cost / (anatomy.groups[one].size * anatomy.groups[other].size))
        elif owner is None:
            fixed += cost
        elif units:
            unit[index[owner]] += cost / units
        else:
            branch[index[owner]] += cost
    if not pairs:
        return Cost(fixed, branch, unit, tuple(index))
    sizes = [[float(anatomy.groups[position].size) for position in pair] for pair in pairs]
    shares = (torch.tensor(pairs), torch.tensor(sizes).double(), torch.tensor(products, dtype=torch.float64))
    return SharedCost(fixed, branch, unit, tuple(index), *shares)


def shared_tensors(anatomy: Anatomy) -> dict[str, tuple[str, str]]:
    """Name of a tensor -> paths of the two groups that divide it, one along each of its axes."""
    dividing: dict[str, list[str]] = {}
    for group in anatomy.groups:
        for row in group.kind.slices:
            dividing.setdefault(f"{group.home}.{row.tensor}", []).append(group.path)
    return {name: (paths[0], paths[1]) for name, paths in dividing.items() if len(paths) == 2}


def owners(anatomy: Anatomy) -> dict[str, tuple[str, float]]:
    """Name prefix of tensors -> (path of the owning group, units that they are divided among, or 0)."""
    found: dict[str, tuple[str, float]] = {}
    for group in anatomy.groups:
        for prefix in filter(None, (*group.modules, group.norm)):
            found[f"{prefix}."] = (group.path, 0)
        for row in group.kind.slices:
            found[f"{group.home}.{row.tensor}"] = (group.path, group.size)
    return found


def owner_of(name: str, prefixes: Mapping[str, tuple[str, float]]) -> tuple[str | None, float]:
    """The entry of `owners` with the longest prefix of a tensor's name; (None, 0) where none has one."""
    stem = name
    if stem in prefixes:
        return prefixes[stem]
    while "." in stem:
        stem = stem.rpartition(".")[0]
        if f"{stem}." in prefixes:
            return prefixes[f"{stem}."]
    return None, 0
