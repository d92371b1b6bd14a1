"""LLM-Pruner (Ma et al. 2023), element-wise: units whose weights together change the loss least are cut."""

from transformers import PreTrainedModel

from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Cut the same share of every module, as the paper does.

    A unit's score is the sum of |w g| over all weights that leave with it.
    """
    scores = context.coupled_taylor_scores(model, target)
    return one_shot(plan_for_target(target, ranks_within(target.anatomy, scores)), target)
