"""FLAP (An et al. 2024): units that fluctuate least are cut, and biases put out what they put out on average."""

from dataclasses import replace

from transformers import PreTrainedModel

from trimbre.pruning.allocation import PruningTarget, plan_for_target
from trimbre.pruning.methods.base import MethodResult, PruningContext, in_a_row, one_shot, scorable
from trimbre.pruning.scores.fluctuation import bias_shifts, fluctuation_scores, fluctuations

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Cut by standardised fluctuation over the whole model, and shift the biases of what is cut.

    The refit solves biases too, so that without one (`RecoveryConfig.refit`) this is the paper's method.
    """
    groups = scorable(model, target)
    found = fluctuations(model, groups, context.calibration_batches(), reduce_mean=context.mean)
    scores = in_a_row(groups, fluctuation_scores(model, groups, found), target)
    plan = plan_for_target(target, scores)
    return replace(one_shot(plan, target), bias_shifts=bias_shifts(model, groups, found, plan))
