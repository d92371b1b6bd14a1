"""Minitron's width pruning (Muralidharan et al. 2024): units of the smallest outputs are cut, in uniform widths."""

from transformers import PreTrainedModel

from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot
from trimbre.pruning.scores.activation import minitron_scores

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Cut every module of a kind to the same width.

    The paper also narrows the residual stream, which is no unit here, and searches among a few shapes, where here the
    target decides.
    """
    scores = context.scores_of_inputs(minitron_scores, model, target)
    return one_shot(plan_for_target(target, ranks_within(target.anatomy, scores)), target)
