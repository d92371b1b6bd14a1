"""One-shot first-order Taylor pruning (Molchanov et al. 2019): the units that are worth least for their cost leave."""

from transformers import PreTrainedModel

from trimbre.costs.prices import worth_for_price
from trimbre.pruning.allocation import PruningTarget, plan_for_target
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

LEARNS = False


def choose(model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> MethodResult:
    """Cut by the squared slope of the loss over each unit's gate, relative to its price, over the whole model."""
    worth = worth_for_price(aim.anatomy, aim.budgets, context.slopes(model, aim))
    return one_shot(plan_for_target(aim, worth), aim)
