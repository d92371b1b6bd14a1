"""Iterative Taylor pruning (Molchanov et al. 2019): score, cut a little, train a little, and again."""

from collections.abc import Mapping
from dataclasses import replace

from transformers import PreTrainedModel

from trimbre.budget.prices import worth_for_price
from trimbre.gates import Gates, gated
from trimbre.lagrangian import Ramp
from trimbre.methods.interface import Choice, Lesson
from trimbre.plan import Plan
from trimbre.search import Aim, plan_for_target
from trimbre.surgery import Scales

LEARNS = True
ROUNDS = 8
"""How often units leave, the target rising from round to round."""


def choose(model: PreTrainedModel, lesson: Lesson, aim: Aim) -> Choice:
    """Train with gates that are open or shut, shutting more of them in every round by the scores of the moment."""
    steps = lesson.options.learn_steps
    every = max(1, steps // ROUNDS)
    ramp = Ramp(aim.share, max(1, round(lesson.options.gates.ramp * steps)))
    gates = Gates(aim.anatomy).to(model.device).requires_grad_(False)
    gates.set_values(Scales.open(aim.anatomy))

    def decide(done: int) -> Plan:
        # What was shut has no slope, and so stays shut.
        scores = lesson.slopes(model, aim, done * lesson.training.accumulate)
        worth = worth_for_price(aim.anatomy, aim.budgets, scores)
        share = ramp(min(steps, done + every)) if steps else aim.share
        return plan_for_target(replace(aim, share=share), worth)

    def shut(plan: Plan) -> None:
        gates.set_values(Scales.open(aim.anatomy).hardened(plan))

    def on_step(done: int) -> Mapping[str, float]:
        if done % every == 0 and done < steps:
            shut(decide(done))
        return {}

    with gated(model, gates):
        shut(decide(0))
        result = lesson.learn(model, gates, on_step=on_step)
        plan = decide(steps)
    return Choice(plan, Scales.open(aim.anatomy), result)
