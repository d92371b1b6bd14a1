"""Units at random, the same share of every module: the baseline that every method has to beat."""

import torch
from transformers import PreTrainedModel

from trimbre.plan import Plan
from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Cut units drawn at random from the run's seed."""
    return one_shot(uniform_plan(target, seed=context.training.seed), target)


def uniform_plan(target: PruningTarget, *, seed: int) -> Plan:
    """The same share of every module, units at random."""
    scores = torch.rand(len(target.anatomy.owner), generator=torch.Generator().manual_seed(seed))
    return plan_for_target(target, ranks_within(target.anatomy, scores))
