"""One-shot second-order pruning, Optimal Brain Surgeon over whole units: what the rest can make up for leaves."""

from transformers import PreTrainedModel

from trimbre.costs.prices import worth_for_price
from trimbre.pruning.allocation import PruningTarget, plan_for_target
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

LEARNS = False


def choose(model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> MethodResult:
    """Cut by how much the loss rises although the units that stay make up for each that leaves, relative to price."""
    worth = worth_for_price(aim.anatomy, aim.budgets, context.losses(model, aim))
    return one_shot(plan_for_target(aim, worth), aim)
