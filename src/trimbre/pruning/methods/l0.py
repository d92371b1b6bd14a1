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
from trimbre.training.loop import FitResult

LEARNS = True


def choose(model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> MethodResult:
    """Start gates in the order of their scores, train them with the weights, and keep what they keep."""
    gates = start_gates(model, context, aim)
    seeded = plan_from_gates(gates, aim) if context.options.gates.spread > 0 else None
    choice = learned(model, gates, context, aim, plan=lambda: plan_from_gates(gates, aim))
    return replace(choice, as_seeded=None if seeded is None else agreement(aim.anatomy, choice.plan, seeded))


def learned(
    model: PreTrainedModel, gates: Gates, context: PruningContext, aim: PruningTarget, *, plan: Callable[[], Plan]
) -> MethodResult:
    """Learn `gates` with the weights, then make of them what `plan` says."""
    result = learn(model, gates, context, aim)
    multipliers = Multipliers(gates, aim.budgets)
    expected = multipliers.meet(aim.share)
    chosen = plan()
    return MethodResult(chosen, gates.scales(), result, expected, disagreement(gates, chosen))


def start_gates(model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> Gates:
    """Gates that harm nothing yet, in the order of their second-order scores; protected ones open for good."""
    options = context.options.gates
    gates = Gates(aim.anatomy, sampled=options.sampled).to(model.device)
    if options.spread > 0:
        seed_from_ranks(gates, context.losses(model, aim), aim.budgets, spread=options.spread)
    hold_protected(gates, aim)
    return gates


@torch.no_grad()
def hold_protected(gates: Gates, aim: PruningTarget) -> None:
    """Open the gates of what may not be cut for good."""
    gates.units[aim.protected[aim.anatomy.owner].to(gates.units.device)] = SETTLED
    gates.branches[aim.protected.to(gates.branches.device)] = SETTLED


def seed_from_ranks(gates: Gates, scores: Tensor, budgets: Sequence[Budget], *, spread: float) -> None:
    """Start gates from ranks: the unit whose score is least for its cost at UNHARMED, the best `spread` above.

    The rank counts cost, so that sinking all gates alike until a share of the cost is gone closes that share of the
    ranks. Branches start at the top, so that a module leaves whole only once the loss has said so.

    Args:
        scores: (units,) of all groups in a row.
    """
    cost = unit_prices(gates.anatomy, budgets)
    worth = scores.double().cpu() / cost
    order = torch.argsort(worth, stable=True)
    rank = torch.empty_like(worth)
    rank[order] = (cost[order].cumsum(0) - cost[order] / 2) / cost.sum()
    with torch.no_grad():
        gates.units.copy_(UNHARMED + spread * rank)
        gates.branches.fill_(UNHARMED + spread)


def learn(model: PreTrainedModel, gates: Gates, context: PruningContext, aim: PruningTarget) -> FitResult:
    """Train gates and weights jointly while the multipliers hold the expected cost to its ramp."""
    options = context.options.gates
    multipliers = Multipliers(gates, aim.budgets)
    ramp = Ramp(aim.share, max(1, round(options.ramp * options.steps)))
    logits = torch.optim.Adam(gates.parameters(), lr=options.rate, betas=(0.9, 0.99))

    def hold(step: int) -> Mapping[str, float]:
        wanted = ramp(step)
        reached = multipliers.meet(wanted)
        return {"removed": min(reached), "target": wanted}

    with gated(model, gates):
        return context.learn(model, gates, on_step=hold, optimizers=[logits])


def plan_from_gates(gates: Gates, aim: PruningTarget) -> Plan:
    """The plan of exact cost nearest to what the gates say."""
    branches = keep_probability(gates.branches.detach().cpu())
    # Measured from the point where a unit is as likely kept as not, so that the search starts where learning ended.
    scores = (gates.units.detach().double().cpu() + KEEP_SHIFT).clamp(-30, 30)
    shut = frozenset(g.path for g, keep in zip(aim.anatomy.groups, branches.tolist(), strict=True) if keep <= 0.5)
    return plan_for_target(aim, scores, skipped=shut)


def disagreement(gates: Gates, plan: Plan) -> float:
    """Share of the units that a plan decides otherwise than the gates, which keep what is likelier kept than not."""
    said = (keep_probability(gates.units.detach().cpu()) > 0.5) & (
        keep_probability(gates.branches.detach().cpu()) > 0.5
    )[gates.anatomy.owner]
    return float((said != kept_units(gates.anatomy, plan)).double().mean())


def agreement(anatomy: Anatomy, plan: Plan, other: Plan) -> float:
    """Share of the units that a plan cuts which another cuts too."""
    gone, theirs = ~kept_units(anatomy, plan), ~kept_units(anatomy, other)
    return float((gone & theirs).double().sum() / gone.sum().clamp_min(1))


def kept_units(anatomy: Anatomy, plan: Plan) -> Tensor:
    """(units,) bool: which units of all groups in a row a plan keeps."""
    masks = [
        torch.zeros(group.size, dtype=torch.bool).index_fill_(
            0, torch.tensor(plan.kept[group.path], dtype=torch.long), True
        )
        for group in anatomy.groups
    ]
    return torch.cat(masks)
