"""Module gates only: whole feed-forwards, attentions and convolutions are learned to be removed, no single units."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.constraint import SETTLED
from trimbre.pruning.gates import UNHARMED, Gates, keep_probability
from trimbre.pruning.methods import l0
from trimbre.pruning.methods.base import MethodResult, PruningContext

TRAINS = True


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Learn the gates of modules as `l0` does; where no set of modules has the exact cost, one is cut in part."""
    gates = Gates(target.anatomy, sampled=context.gates.sampled).to(model.device)
    with torch.no_grad():
        gates.units.fill_(SETTLED)
        gates.branches.fill_(UNHARMED + context.gates.spread)
    l0.hold_protected(gates, target)
    return l0.learned(model, gates, context, target, plan=lambda: plan_for_target(target, _scores(gates, target)))


def _scores(gates: Gates, target: PruningTarget) -> Tensor:
    """(units,) the order of the modules; within one, units are cut in the order of their indices."""
    survival = keep_probability(gates.branches.detach().cpu().double())
    order = survival.argsort().argsort().double()
    return order[target.anatomy.owner] + ranks_within(target.anatomy, -torch.arange(len(target.anatomy.owner)))
