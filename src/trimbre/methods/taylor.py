"""One-shot first-order Taylor pruning (Molchanov et al. 2019): the units that are worth least for their cost leave."""

from transformers import PreTrainedModel

from trimbre.budget.prices import worth_for_price
from trimbre.methods.interface import Choice, Lesson, one_shot
from trimbre.search import Aim, plan_for_target

LEARNS = False


def choose(model: PreTrainedModel, lesson: Lesson, aim: Aim) -> Choice:
    """Cut by the squared slope of the loss over each unit's gate, relative to its price, over the whole model."""
    worth = worth_for_price(aim.anatomy, aim.budgets, lesson.slopes(model, aim))
    return one_shot(plan_for_target(aim, worth), aim)
