"""One-shot second-order pruning, Optimal Brain Surgeon over whole units: what the rest can make up for leaves."""

from transformers import PreTrainedModel

from trimbre.budget.prices import worth_for_price
from trimbre.methods.interface import Choice, Lesson, one_shot
from trimbre.search import Aim, plan_for_target

LEARNS = False


def choose(model: PreTrainedModel, lesson: Lesson, aim: Aim) -> Choice:
    """Cut by how much the loss rises although the units that stay make up for each that leaves, relative to price."""
    worth = worth_for_price(aim.anatomy, aim.budgets, lesson.losses(model, aim))
    return one_shot(plan_for_target(aim, worth), aim)
