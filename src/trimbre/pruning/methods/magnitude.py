"""One-shot structured magnitude pruning (Li et al. 2017): the units whose own weights are smallest leave."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.models.anatomy import Anatomy
from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

LEARNS = False


def choose(model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> MethodResult:
    """Cut the same share of every module: norms of unlike modules say nothing of each other."""
    return one_shot(plan_for_target(aim, ranks_within(aim.anatomy, norms(model, aim.anatomy))), aim)


@torch.no_grad()
def norms(model: PreTrainedModel, anatomy: Anatomy) -> Tensor:
    """(units,) L2 norm of all that leaves with a unit, statistics of norms apart."""
    found = []
    for group in anatomy.groups:
        squares = torch.zeros(group.size, dtype=torch.float64)
        learned = dict(model.get_submodule(group.home).named_parameters())
        for row in group.kind.slices:
            if row.tensor not in learned:
                continue
            entries = learned[row.tensor].detach().double().cpu().movedim(row.axis, 0)
            squares += entries.reshape(row.repeats, group.size, -1).square().sum((0, 2))
        found.append(squares.sqrt())
    return torch.cat(found)
