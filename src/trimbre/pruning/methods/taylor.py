"""One-shot pruning by first-order Taylor scores (Molchanov et al. 2019), relative to the cost of each unit."""

from transformers import PreTrainedModel

from trimbre.costs.prices import score_per_price
from trimbre.pruning.allocation import PruningTarget, plan_for_target
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Cut by the squared gradient of the loss at each unit's gate, relative to its price, over the whole model."""
    scores = score_per_price(target.anatomy, target.budgets, context.taylor_scores(model, target))
    return one_shot(plan_for_target(target, scores), target)
