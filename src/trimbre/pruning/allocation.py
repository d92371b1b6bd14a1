"""From scores to a Plan whose exact cost meets the target: the last step of every method."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trimbre.costs.cost import Budget
from trimbre.costs.prices import prices
from trimbre.errors import OptionError, UserError
from trimbre.models.anatomy import Anatomy
from trimbre.plan import Plan

TOLERANCE = 0.005
"""How far the exact share removed may lie from the target: half a percentage point."""


@dataclass(frozen=True)
class Protection:
    """What may not be cut: kinds by name, layers by number."""

    kinds: frozenset[str] = frozenset()
    layers: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, words: Sequence[str], anatomy: Anatomy) -> "Protection":
        """Read words such as `attention` or `0`; raises OptionError for one that names nothing in the model."""
        layers = {group.layer for group in anatomy.groups if group.layer is not None}
        for word in words:
            if word not in anatomy.kinds and not (word.isdigit() and int(word) in layers):
                raise OptionError(
                    "protect",
                    word,
                    "the model has no such kind or layer; "
                    f"name one of {', '.join(sorted(anatomy.kinds))} or a layer from {min(layers)} to {max(layers)}",
                    owner="PruneConfig",
                )
        return cls(
            frozenset(word for word in words if not word.isdigit()),
            frozenset(int(word) for word in words if word.isdigit()),
        )

    def mask(self, anatomy: Anatomy, scope: str = "model") -> Tensor:
        """(groups,) bool: the groups that stay whole; those outside of `scope` do too."""
        prefix = anatomy.scopes[scope]
        return torch.tensor(
            [
                g.kind.name in self.kinds or g.layer in self.layers or not g.path.startswith(prefix)
                for g in anatomy.groups
            ]
        )


@dataclass(frozen=True)
class PruningTarget:
    """The share of one or two budgets that a method has to remove, and the groups that it may not cut."""

    anatomy: Anatomy
    budgets: Sequence[Budget]
    """One, or two that are to be met together."""
    share: float
    """Share of each budget's dense cost to remove, 0 to 1."""
    protected: Tensor
    """(groups,) bool: groups that stay whole."""
    multiple_of: int = 1
    """Widths of feed-forward units and channels are rounded to multiples of this."""


def check_reachable(target: PruningTarget) -> None:
    """Raise UserError, naming the reachable maximum, if skipping all that may be cut removes too little."""
    widths, opens = smallest(target.anatomy, target.protected)
    for budget in target.budgets:
        most = 1 - float(budget.cost(widths, opens)) / budget.dense
        if target.share > most - TOLERANCE:
            raise UserError(
                f"cannot remove {target.share:.1%} of {budget.title}: "
                f"what may be cut is {most:.1%} of it; ask for less, protect less, or count of='blocks'"
            )


def smallest(anatomy: Anatomy, protected: Tensor) -> tuple[Tensor, Tensor]:
    """Widths and survivals, (groups,) float64 each, of the smallest model that can be cut.

    Args:
        protected: (groups,) bool: groups that stay whole.
    """
    sizes = [float(group.size) for group in anatomy.groups]
    least = [float(min(group.least, group.size)) for group in anatomy.groups]
    stays = torch.tensor([not group.skippable for group in anatomy.groups]) | protected
    widths = torch.where(protected, torch.tensor(sizes), torch.tensor(least))
    return widths.double(), stays.double()


def ranks_within(anatomy: Anatomy, scores: Tensor) -> Tensor:
    """(units,) float64: each unit's rank among those of its own group, between 0 and 1.

    As scores, ranks remove the same share of every group.
    """
    ranks = []
    for own in scores.double().split([group.size for group in anatomy.groups]):
        places = torch.empty_like(own)
        places[torch.argsort(own, stable=True)] = torch.arange(len(own), dtype=own.dtype) + 0.5
        ranks.append(places / len(own))
    return torch.cat(ranks)


def plan_for_target(target: PruningTarget, scores: Tensor, *, skipped: frozenset[str] = frozenset()) -> Plan:
    """Keep the units with the highest scores, so that the exact cost meets the target.

    One threshold on all scores is found by bisection. With two budgets a second multiplier, found by bisection around
    the first, trades the kinds of units against each other. A branch left without units is skipped.

    Args:
        scores: (units,) of all groups in a row, comparable across groups.
        skipped: branches that are skipped whatever their units score.
    """
    anatomy, budgets, share, protected = target.anatomy, target.budgets, target.share, target.protected
    costs = prices(anatomy, budgets)[anatomy.owner]
    flat = scores.cpu().double()
    step = torch.tensor([target.multiple_of if group.kind.rows == 1 else 1 for group in anatomy.groups])
    sizes = torch.tensor([group.size for group in anatomy.groups])
    stays = torch.tensor([not group.skippable for group in anatomy.groups])
    open_ = torch.tensor([group.path not in skipped for group in anatomy.groups]) | stays
    least = torch.tensor([float(min(group.least, group.size)) for group in anatomy.groups], dtype=torch.float64)
    starts = [0, *torch.cumsum(sizes, 0).tolist()]

    coarse = torch.tensor([group.kind.rows > 1 for group in anatomy.groups])
    span = 2 * float(flat.abs().max()) + 1

    def widths_at(effective: Tensor) -> Tensor:
        running = torch.cat([torch.zeros(1, dtype=torch.float64), (effective > 0).double().cumsum(0)])
        counts = running[starts[1:]] - running[starts[:-1]]
        rounded = torch.minimum((counts / step).round() * step, (sizes // step) * step)
        free = torch.where(open_ & ((rounded > 0) | stays), torch.maximum(rounded, least), 0.0)
        return torch.where(protected, sizes.double(), free)

    def removed(widths: Tensor) -> list[float]:
        opens = ((widths > 0) | protected | stays).double()
        return [float(1 - budget.cost(widths, opens) / budget.dense) for budget in budgets]

    def off(widths: Tensor) -> float:
        """How far the mean share is from the target."""
        return abs(sum(removed(widths)) / len(budgets) - share)

    def bisect(base: Tensor, heads: Tensor | None) -> tuple[float, Tensor, Tensor]:
        """The multiplier and widths that bring the mean share nearest to the target, with the `heads` given or free.

        Last come the widths nearest to it that remove too little: finer units can still be cut there.

        The mean, and not one budget's share: heads are few, so that two budgets seldom meet; the gap is split.
        """
        low, high, nearest = -span, span, (0.0, widths_at(base))
        best, under = float("inf"), widths_at(base + span)
        for _ in range(32):
            middle = (low + high) / 2
            widths = widths_at(base - middle * costs[:, 0])
            widths = widths if heads is None else torch.where(coarse, heads, widths)
            reached = sum(removed(widths)) / len(budgets)
            if abs(reached - share) < best:
                best, nearest = abs(reached - share), (middle, widths)
            low, high, under = (middle, high, widths) if reached < share else (low, middle, under)
        return *nearest, under

    def settle(second: float) -> tuple[Tensor, Tensor]:
        """Widths for a second multiplier; heads are settled first, the finer units then fill up to the target."""
        base = flat - costs[:, 1] * second if len(budgets) == 2 else flat
        _, heads, fewer_cut = bisect(base, None)
        multiplier, widths, _ = bisect(base, heads)
        if off(widths) > TOLERANCE / 5:  # too many heads are cut for the finer units to make up for
            other = bisect(base, fewer_cut)
            multiplier, widths, _ = min((multiplier, widths, heads), other, key=lambda one: off(one[1]))
        return base - multiplier * costs[:, 0], widths

    def miss(widths: Tensor) -> float:
        return max(abs(reached - share) for reached in removed(widths))

    effective, widths = settle(0.0)
    if len(budgets) == 2:
        low, high = -span, span
        for _ in range(24):
            middle = (low + high) / 2
            trial = settle(middle)
            low, high = (middle, high) if removed(trial[1])[1] < share else (low, middle)
            if miss(trial[1]) < miss(widths):
                effective, widths = trial
    return _plan_of(anatomy, effective.split(sizes.tolist()), widths)


def _plan_of(anatomy: Anatomy, effective: Sequence[Tensor], widths: Tensor) -> Plan:
    """Keep the best `widths` units of every group; skip a group without units, where it can be."""
    kept = {}
    for group, values, width in zip(anatomy.groups, effective, widths.tolist(), strict=True):
        order = torch.argsort(values, descending=True, stable=True)[: int(width)]
        kept[group.path] = tuple(sorted(order.tolist()))
    return Plan(anatomy.sizes, kept, frozenset(g.path for g in anatomy.groups if g.skippable and not kept[g.path]))
