"""Iterative Taylor pruning (Molchanov et al. 2019): score, cut a little, train a little, and again."""

from collections.abc import Mapping
from dataclasses import replace

from transformers import PreTrainedModel

from trimbre.costs.prices import worth_for_price
from trimbre.plan import Plan
from trimbre.pruning.allocation import PruningTarget, plan_for_target
from trimbre.pruning.constraint import Ramp
from trimbre.pruning.gates import Gates, gated
from trimbre.pruning.methods.base import MethodResult, PruningContext
from trimbre.pruning.surgery import GateValues

LEARNS = True
ROUNDS = 8
"""How often units leave, the target rising from round to round."""


def choose(model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> MethodResult:
    """Train with gates that are open or shut, shutting more of them in every round by the scores of the moment."""
    steps = context.options.gates.steps
    every = max(1, steps // ROUNDS)
    ramp = Ramp(aim.share, max(1, round(context.options.gates.ramp * steps)))
    gates = Gates(aim.anatomy).to(model.device).requires_grad_(False)
    gates.set_values(GateValues.open(aim.anatomy))

    def decide(done: int) -> Plan:
        # What was shut has no slope, and so stays shut.
        scores = context.slopes(model, aim, done * context.training.accumulate)
        worth = worth_for_price(aim.anatomy, aim.budgets, scores)
        share = ramp(min(steps, done + every)) if steps else aim.share
        return plan_for_target(replace(aim, share=share), worth)

    def shut(plan: Plan) -> None:
        gates.set_values(GateValues.open(aim.anatomy).hardened(plan))

    def on_step(done: int) -> Mapping[str, float]:
        if done % every == 0 and done < steps:
            shut(decide(done))
        return {}

    with gated(model, gates):
        shut(decide(0))
        result = context.learn(model, gates, on_step=on_step)
        plan = decide(steps)
    return MethodResult(plan, GateValues.open(aim.anatomy), result)
