"""Wanda over whole units (Sun et al. 2024; structured as in An et al. 2024): units of the least |W| |x| are cut."""

from transformers import PreTrainedModel

from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot
from trimbre.pruning.scores.activation import wanda_scores

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Cut the same share of every module, as the papers do."""
    scores = context.scores_of_inputs(wanda_scores, model, target)
    return one_shot(plan_for_target(target, ranks_within(target.anatomy, scores)), target)
