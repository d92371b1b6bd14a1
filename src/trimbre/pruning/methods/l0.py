"""Learned L0 gates (Louizos et al. 2018; Jiang et al. 2023): train masks and weights together toward a target size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.costs.cost import Budget
from trimbre.costs.prices import unit_prices
from trimbre.models.anatomy import Anatomy
from trimbre.plan import Plan
from trimbre.pruning.allocation import PruningTarget, plan_for_target
from trimbre.pruning.constraint import SETTLED, Multipliers, Ramp
from trimbre.pruning.gates import KEEP_SHIFT, UNHARMED, Gates, gated, keep_probability
from trimbre.pruning.methods.base import MethodResult, PruningContext
from trimbre.pruning.methods.gate_training import train_gated
from trimbre.pruning.numerics import assign
from trimbre.training.loop import FitResult

TRAINS = True


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Start gates in the order of their scores, train them with the weights, and keep the units they keep."""
    gates = start_gates(model, context, target)
    seeded = plan_from_gates(gates, target) if context.gates.spread > 0 else None
    result = learned(model, gates, context, target, plan=lambda: plan_from_gates(gates, target))
    return replace(result, as_seeded=None if seeded is None else agreement(target.anatomy, result.plan, seeded))


def learned(
    model: PreTrainedModel,
    gates: Gates,
    context: PruningContext,
    target: PruningTarget,
    *,
    plan: Callable[[], Plan],
) -> MethodResult:
    """Train `gates` with the weights, then make the plan that `plan` returns."""
    fit = learn(model, gates, context, target)
    multipliers = Multipliers(gates, target.budgets)
    expected = multipliers.meet(target.share)
    chosen = plan()
    return MethodResult(chosen, gates.noiseless(), fit, expected, disagreement(gates, chosen))


def start_gates(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> Gates:
    """Open gates in the order of their second-order scores; protected ones are open for good."""
    gates = Gates(target.anatomy, sampled=context.gates.sampled).to(model.device)
    if context.gates.spread > 0:
        seed_from_ranks(gates, context.obs_scores(model, target), target.budgets, spread=context.gates.spread)
    hold_protected(gates, target)
    return gates


@torch.no_grad()
def hold_protected(gates: Gates, target: PruningTarget) -> None:
    """Open the gates of protected groups for good, in place."""
    gates.units[target.protected[target.anatomy.owner].to(gates.units.device)] = SETTLED
    gates.branches[target.protected.to(gates.branches.device)] = SETTLED


def seed_from_ranks(gates: Gates, scores: Tensor, budgets: Sequence[Budget], *, spread: float) -> None:
    """Start gates by rank, in place: the unit of the least score for its cost at UNHARMED, the best `spread` above it.

    Ranks are weighted by cost, so that lowering all gates alike until a share of the cost is removed closes that share
    of the ranks. Branches start at the top, so that a module is removed whole only if the loss says so.

    Args:
        scores: (units,) of all groups in a row.
    """
    cost = unit_prices(gates.anatomy, budgets)
    worth = scores.cpu().double() / cost
    order = torch.argsort(worth, stable=True)
    rank = torch.empty_like(worth)
    rank[order] = (cost[order].cumsum(0) - cost[order] / 2) / cost.sum()
    assign(gates.units, UNHARMED + spread * rank)
    with torch.no_grad():
        gates.branches.fill_(UNHARMED + spread)


def learn(model: PreTrainedModel, gates: Gates, context: PruningContext, target: PruningTarget) -> FitResult:
    """Train gates and weights together, in place, while the multipliers hold the expected cost to its ramp."""
    options = context.gates
    multipliers = Multipliers(gates, target.budgets)
    ramp = Ramp(target.share, max(1, round(options.ramp * options.steps)), target.gone)
    logits = torch.optim.Adam(gates.parameters(), lr=options.rate, betas=(0.9, 0.99))

    def hold(step: int) -> Mapping[str, float]:
        wanted = ramp(step)
        reached = multipliers.meet(wanted)
        return {"removed": min(reached), "target": wanted}

    with gated(model, gates):
        return train_gated(model, gates, context, on_step=hold, optimizers=[logits])


def plan_from_gates(gates: Gates, target: PruningTarget) -> Plan:
    """The plan of exact cost nearest to the gates."""
    branches = keep_probability(gates.branches.detach().cpu())
    # Zero is where a unit is as likely kept as not, so that the search starts where learning ended.
    scores = (gates.units.detach().cpu().double() + KEEP_SHIFT).clamp(-30, 30)
    closed = frozenset(g.path for g, keep in zip(target.anatomy.groups, branches.tolist(), strict=True) if keep <= 0.5)
    return plan_for_target(target, scores, skipped=closed)


def disagreement(gates: Gates, plan: Plan) -> float:
    """Share of the units on which a plan differs from the gates, which keep what is likelier kept than not."""
    kept = (keep_probability(gates.units.detach().cpu()) > 0.5) & (
        keep_probability(gates.branches.detach().cpu()) > 0.5
    )[gates.anatomy.owner]
    return float((kept != kept_units(gates.anatomy, plan)).double().mean())


def agreement(anatomy: Anatomy, plan: Plan, other: Plan) -> float:
    """Share of the units cut by `plan` that `other` cuts too."""
    cut, also = ~kept_units(anatomy, plan), ~kept_units(anatomy, other)
    return float((cut & also).double().sum() / cut.sum().clamp_min(1))


def kept_units(anatomy: Anatomy, plan: Plan) -> Tensor:
    """(units,) bool: the units that a plan keeps, all groups in a row."""
    masks = [
        torch.zeros(group.size, dtype=torch.bool).index_fill_(
            0, torch.tensor(plan.kept[group.path], dtype=torch.long), True
        )
        for group in anatomy.groups
    ]
    return torch.cat(masks)
