"""From scores to a Plan whose exact cost meets the target: the last step of every method."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import torch
from torch import Tensor

from trimbre.costs.cost import Budget
from trimbre.costs.prices import prices
from trimbre.errors import OptionError, UserError
from trimbre.models.anatomy import Anatomy, Group
from trimbre.plan import Plan
from trimbre.progress import tracked

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
            known = f"name one of {', '.join(sorted(anatomy.kinds))}"
            if word not in anatomy.kinds and not (word.isdecimal() and int(word) in layers):
                raise OptionError(
                    "protect",
                    word,
                    "the model has no such kind or layer; "
                    + known
                    + (f" or a layer from {min(layers)} to {max(layers)}" if layers else ""),
                    owner="PruneConfig",
                )
        return cls(
            frozenset(word for word in words if not word.isdecimal()),
            frozenset(int(word) for word in words if word.isdecimal()),
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
    """Widths of feed-forward units and channels are rounded to multiples of this; whole groups, and those that are
    narrower, are not."""

    @property
    def gone(self) -> float:
        """Share of a budget that is removed before anything is pruned, the largest: rows of the vocabulary."""
        everything = Plan.everything(self.anatomy.sizes)
        return max(budget.removed(everything) for budget in self.budgets)

    @property
    def free(self) -> list[Group]:
        """The groups that may be cut."""
        return list(compress(self.anatomy.groups, (~self.protected).tolist()))


def check_reachable(target: PruningTarget) -> None:
    """Raise UserError, naming the reachable maximum, if skipping all that may be cut removes too little.

    Rows of the vocabulary, which leave before anything is pruned, may be more than is to be removed.
    """
    if target.gone > target.share + TOLERANCE:
        raise UserError(
            f"the rows of the vocabulary that leave are {target.gone:.1%} of what of counts, and to remove are "
            f"{target.share:.1%}: ask for more, or count of='blocks'"
        )
    for budget in target.budgets:
        most = reachable(budget, target)
        if target.share > most - TOLERANCE:
            raise UserError(
                f"cannot remove {target.share:.1%} of {budget.title}: "
                f"what may be cut is {most:.1%} of it; ask for less, protect less, or count of='blocks'"
            )


def reachable(budget: Budget, target: PruningTarget) -> float:
    """The largest share of a budget that can be removed: all that may be cut."""
    return 1 - float(budget.cost(*smallest(target.anatomy, target.protected))) / budget.dense


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
    for own in scores.cpu().double().split([group.size for group in anatomy.groups]):
        places = torch.empty_like(own)
        places[torch.argsort(own, stable=True)] = torch.arange(len(own), dtype=own.dtype) + 0.5
        ranks.append(places / len(own))
    return torch.cat(ranks)


def plan_for_target(target: PruningTarget, scores: Tensor, *, skipped: frozenset[str] = frozenset()) -> Plan:
    """Keep the units with the highest scores, so that the exact cost meets the target.

    One threshold on all scores is found by bisection. With two budgets a second multiplier, found by bisection around
    the first, trades the kinds of units against each other. A branch left without units is skipped. With
    `multiple_of`, single groups are then made a step wider or narrower while that brings the cost nearer to the target.

    Args:
        scores: (units,) of all groups in a row, comparable across groups.
        skipped: branches that are skipped whatever their units score.
    """
    search = _Search(target, scores, skipped)
    effective, widths = search.settle(0.0)
    if len(target.budgets) == 2:
        low, high = -search.span, search.span
        for _ in tracked(range(24), "allocation"):
            middle = (low + high) / 2
            trial = search.settle(middle)
            low, high = (middle, high) if search.removed(trial[1])[1] < target.share else (low, middle)
            if search.miss(trial[1]) < search.miss(widths):
                effective, widths = trial
    if target.multiple_of > 1:
        widths = search.refined(widths)
    return _plan_of(target.anatomy, effective.split([group.size for group in target.anatomy.groups]), widths)


class _Search:
    """Widths of all groups, (groups,) float64, for thresholds on the scores of their units."""

    def __init__(self, target: PruningTarget, scores: Tensor, skipped: frozenset[str]):
        groups = target.anatomy.groups
        self.budgets, self.share, self.protected = target.budgets, target.share, target.protected
        self.costs = prices(target.anatomy, target.budgets)[target.anatomy.owner]
        self.scores = scores.cpu().double()
        self.span = 2 * float(self.scores.abs().max()) + 1
        self.sizes = torch.tensor([group.size for group in groups])
        self.starts = [0, *torch.cumsum(self.sizes, 0).tolist()]
        self.step = torch.tensor([_step(group, target.multiple_of) for group in groups])
        self.coarse = torch.tensor([group.kind.rows > 1 for group in groups])
        self.stays = torch.tensor([not group.skippable for group in groups])
        self.open = torch.tensor([group.path not in skipped for group in groups]) | self.stays
        self.least = torch.tensor([float(min(group.least, group.size)) for group in groups], dtype=torch.float64)
        self.least = torch.where(self.least > 0, self.least.maximum(self.step), 0.0)  # rounded as all widths are

    def widths_at(self, effective: Tensor) -> Tensor:
        """Widths if the units above zero are kept, (units,), rounded; a group that keeps a unit is not rounded away."""
        running = torch.cat([torch.zeros(1, dtype=torch.float64), (effective > 0).double().cumsum(0)])
        counts = running[self.starts[1:]] - running[self.starts[:-1]]
        rounded = torch.minimum((counts / self.step).round() * self.step, self.sizes)
        rounded = torch.where(counts > 0, torch.maximum(rounded, self.step), 0.0)
        free = torch.where(self.open & ((rounded > 0) | self.stays), torch.maximum(rounded, self.least), 0.0)
        return torch.where(self.protected, self.sizes.double(), free)

    def removed(self, widths: Tensor) -> list[float]:
        """Share removed of each budget."""
        opens = ((widths > 0) | self.protected | self.stays).double()
        return [float(1 - budget.cost(widths, opens) / budget.dense) for budget in self.budgets]

    def off(self, widths: Tensor) -> float:
        """How far the mean share removed is from the target."""
        return abs(sum(self.removed(widths)) / len(self.budgets) - self.share)

    def miss(self, widths: Tensor) -> float:
        """How far the share removed of the farther budget is from the target."""
        return max(abs(reached - self.share) for reached in self.removed(widths))

    def bisect(self, base: Tensor, heads: Tensor | None) -> tuple[float, Tensor, Tensor]:
        """The multiplier and widths that bring the mean share nearest to the target, with the `heads` given or free.

        Last come the widths nearest to it that remove too little: finer units can still be cut there.

        The mean, and not one budget's share: heads are few, so that two budgets seldom meet; the gap is split.
        """
        low, high, nearest = -self.span, self.span, (0.0, self.widths_at(base))
        best, under = float("inf"), self.widths_at(base + self.span)
        for _ in range(32):
            middle = (low + high) / 2
            widths = self.widths_at(base - middle * self.costs[:, 0])
            widths = widths if heads is None else torch.where(self.coarse, heads, widths)
            reached = sum(self.removed(widths)) / len(self.budgets)
            if abs(reached - self.share) < best:
                best, nearest = abs(reached - self.share), (middle, widths)
            low, high, under = (middle, high, widths) if reached < self.share else (low, middle, under)
        return *nearest, under

    def settle(self, second: float) -> tuple[Tensor, Tensor]:
        """Scores less the threshold, (units,), and widths, for a second multiplier.

        Heads are settled first, the finer units then fill up to the target.
        """
        base = self.scores - self.costs[:, 1] * second if len(self.budgets) == 2 else self.scores
        _, heads, fewer_cut = self.bisect(base, None)
        multiplier, widths, _ = self.bisect(base, heads)
        if self.off(widths) > TOLERANCE / 5:  # too many heads are cut for the finer units to make up for
            other = self.bisect(base, fewer_cut)
            multiplier, widths, _ = min((multiplier, widths, heads), other, key=lambda one: self.off(one[1]))
        return base - multiplier * self.costs[:, 0], widths

    def refined(self, widths: Tensor) -> Tensor:
        """Widths after single steps of rounding, each the one that helps most, until the target is met."""
        free = [i for i, width in enumerate(widths.tolist()) if width and not self.protected[i]]
        while self.miss(widths) > TOLERANCE:
            trials = []
            for place in free:
                step, size = float(self.step[place]), float(self.sizes[place])
                narrower, wider = torch.ceil(widths[place] / step) * step - step, widths[place] + step
                if float(narrower) >= max(step, float(self.least[place])):
                    trials.append(widths.index_fill(0, torch.tensor(place), float(narrower)))
                if widths[place] < size:
                    trials.append(widths.index_fill(0, torch.tensor(place), min(float(wider), size)))
            nearest = min(trials, key=self.miss, default=widths)
            if self.miss(nearest) >= self.miss(widths):
                break
            widths = nearest
        return widths


def _step(group: Group, multiple_of: int) -> int:
    """What the width of a group is rounded to multiples of: 1 for heads, and for groups narrower than `multiple_of`."""
    return multiple_of if group.kind.rows == 1 and group.size >= multiple_of else 1


def _plan_of(anatomy: Anatomy, effective: Sequence[Tensor], widths: Tensor) -> Plan:
    """Keep the best `widths` units of every group; skip a group without units, where it can be."""
    kept = {}
    for group, values, width in zip(anatomy.groups, effective, widths.tolist(), strict=True):
        order = torch.argsort(values, descending=True, stable=True)[: int(width)]
        kept[group.path] = tuple(sorted(order.tolist()))
    return Plan(anatomy.sizes, kept, frozenset(g.path for g in anatomy.groups if g.skippable and not kept[g.path]))
