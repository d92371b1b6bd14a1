"""One-shot pruning by second-order scores (`scores.obs`): units of the least loss increase for their cost are cut."""

from transformers import PreTrainedModel

from trimbre.costs.prices import score_per_price
from trimbre.pruning.allocation import PruningTarget, plan_for_target
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Cut by the loss increase after the remaining weights are re-solved, relative to price, over the whole model."""
    scores = score_per_price(target.anatomy, target.budgets, context.obs_scores(model, target))
    return one_shot(plan_for_target(target, scores), target)
