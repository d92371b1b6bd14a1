"""Units drawn by lot, the same share of every module: what a method must at least be better than."""

import torch
from transformers import PreTrainedModel

from trimbre.plan import Plan
from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

LEARNS = False


def choose(model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> MethodResult:
    """Cut by lots that follow from the seed."""
    return one_shot(uniform_plan(aim, seed=context.options.seed), aim)


def uniform_plan(aim: PruningTarget, *, seed: int) -> Plan:
    """The same share of every module, units drawn by lot."""
    lots = torch.rand(len(aim.anatomy.owner), generator=torch.Generator().manual_seed(seed))
    return plan_for_target(aim, ranks_within(aim.anatomy, lots))
