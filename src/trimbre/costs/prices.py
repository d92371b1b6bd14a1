"""What units cost beside each other: how a constraint on one or two budgets weighs on each of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trimbre.costs.cost import Budget
from trimbre.models.anatomy import Anatomy


def prices(anatomy: Anatomy, budgets: Sequence[Budget]) -> Tensor:
    """(groups, budgets) float64: how far one multiplier of each budget moves the logits of each group's gates.

    The first moves all alike. The second, where there are two budgets, moves a gate by how much dearer its units are in
    the second budget than in the first, relative to the others: it decides between, say, heads and feed-forward units.
    It leaves those alone that the budgets don't count, which lie outside of their scope.
    """
    columns = [torch.ones(len(anatomy.groups), dtype=torch.float64)]
    if len(budgets) == 2:
        first, second = (budget.cost.unit / budget.dense for budget in budgets)
        ratio = torch.where(first * second > 0, second / first, 1.0).log()
        weight = first * torch.tensor([float(group.size) for group in anatomy.groups], dtype=torch.float64)
        weight = weight / weight.sum()
        ratio = ratio - (ratio * weight).sum()
        spread = (ratio.square() * weight).sum().sqrt()
        columns.append(ratio / spread * (first > 0) if spread > 1e-6 else torch.zeros_like(ratio))
    return torch.stack(columns, 1)


def unit_prices(anatomy: Anatomy, budgets: Sequence[Budget]) -> Tensor:
    """(units,) float64: what one unit costs, as the mean of its shares of the budgets' dense costs."""
    shares = torch.stack([budget.cost.unit / budget.dense for budget in budgets]).mean(0)
    return shares[anatomy.owner]


def worth_for_price(anatomy: Anatomy, budgets: Sequence[Budget], scores: Tensor) -> Tensor:
    """(units,) float64: the logarithm of scores, none below zero, relative to what each unit costs.

    On this scale a multiplier of the constraint moves all units alike (`prices`). What is worth nothing at all lies far
    below the rest, and not at minus infinity, where no search could tell anything apart; nor is what costs nothing, for
    the budgets don't count it, beyond all bounds.
    """
    price = unit_prices(anatomy, budgets)
    worth = torch.where(price > 0, scores.double().cpu() / price, 0.0)
    return (worth / worth.max().clamp_min(1e-300)).clamp_min(1e-30).log()
