"""Prices of units: how the Lagrange multipliers of one or two budgets act on each of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trimbre.costs.cost import Budget
from trimbre.models.anatomy import Anatomy


def prices(anatomy: Anatomy, budgets: Sequence[Budget]) -> Tensor:
    """(groups, budgets) float64: how far one multiplier of each budget moves the logits of each group's gates.

    The first moves all alike. The second, where there are two budgets, moves a gate by the log ratio of its units'
    costs in both budgets, relative to the mean: it decides between, say, heads and feed-forward units. It leaves groups
    alone that the budgets do not count, which lie outside of their scope.
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


def score_per_price(anatomy: Anatomy, budgets: Sequence[Budget], scores: Tensor) -> Tensor:
    """(units,) float64: the logarithm of each unit's score over its cost.

    On this scale a multiplier of the constraint moves all units alike (`prices`). A score of zero ends far below the
    rest and not at minus infinity, which no search could order; so does a unit that the budgets do not count.

    Args:
        scores: (units,) none below zero.
    """
    price = unit_prices(anatomy, budgets)
    ratio = torch.where(price > 0, scores.cpu().double() / price, 0.0)
    return (ratio / ratio.max().clamp_min(1e-300)).clamp_min(1e-30).log()
