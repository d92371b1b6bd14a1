"""One-shot structured magnitude pruning (Li et al. 2017): the units with the smallest weights are cut."""

from transformers import PreTrainedModel

from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot
from trimbre.pruning.scores.magnitude import magnitude_scores

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Cut the same share of every module: norms of different modules are not comparable."""
    scores = magnitude_scores(model, target.anatomy)
    return one_shot(plan_for_target(target, ranks_within(target.anatomy, scores)), target)
