"""Iterative Taylor pruning (Molchanov et al. 2019): score, cut a little, train a little, and repeat."""

from collections.abc import Mapping
from dataclasses import replace

from transformers import PreTrainedModel

from trimbre.costs.prices import score_per_price
from trimbre.plan import Plan
from trimbre.pruning.allocation import PruningTarget, plan_for_target
from trimbre.pruning.constraint import Ramp
from trimbre.pruning.gates import Gates, gated
from trimbre.pruning.methods.base import MethodResult, PruningContext
from trimbre.pruning.methods.gate_training import train_gated
from trimbre.pruning.surgery import GateValues

TRAINS = True
ROUNDS = 8
"""Rounds of cutting, the target rising from round to round."""


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Train behind gates that are open or closed, and close more of them in every round by the current scores."""
    steps = context.gates.steps
    every = max(1, steps // ROUNDS)
    ramp = Ramp(target.share, max(1, round(context.gates.ramp * steps)), target.gone)
    gates = Gates(target.anatomy).to(model.device).requires_grad_(False)
    gates.set_values(GateValues.open(target.anatomy))

    def decide(done: int) -> Plan:
        # Closed units have no gradient, and so stay closed.
        scores = context.taylor_scores(model, target, done * context.training.accumulate)
        scores = score_per_price(target.anatomy, target.budgets, scores)
        share = ramp(min(steps, done + every)) if steps else target.share
        return plan_for_target(replace(target, share=share), scores)

    def close(plan: Plan) -> None:
        gates.set_values(GateValues.open(target.anatomy).restricted_to(plan))

    def on_step(done: int) -> Mapping[str, float]:
        if done % every == 0 and done < steps:
            close(decide(done))
        return {}

    with gated(model, gates):
        close(decide(0))
        result = train_gated(model, gates, context, on_step=on_step)
        plan = decide(steps)
    return MethodResult(plan, GateValues.open(target.anatomy), result)
