"""Units drawn by lot, the same share of every module: what a method must at least be better than."""

import torch
from transformers import PreTrainedModel

from trimbre.methods.interface import Choice, Lesson, one_shot
from trimbre.plan import Plan
from trimbre.search import Aim, plan_for_target, ranks_within

LEARNS = False


def choose(model: PreTrainedModel, lesson: Lesson, aim: Aim) -> Choice:
    """Cut by lots that follow from the seed."""
    return one_shot(uniform_plan(aim, seed=lesson.options.seed), aim)


def uniform_plan(aim: Aim, *, seed: int) -> Plan:
    """The same share of every module, units drawn by lot."""
    lots = torch.rand(len(aim.anatomy.owner), generator=torch.Generator().manual_seed(seed))
    return plan_for_target(aim, ranks_within(aim.anatomy, lots))
