"""Module gates only: whole feed-forwards, attentions and convolutions are learned to leave, and no unit by itself."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.constraint import SETTLED
from trimbre.pruning.gates import UNHARMED, Gates, keep_probability
from trimbre.pruning.methods import l0
from trimbre.pruning.methods.base import MethodResult, PruningContext

LEARNS = True


def choose(model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> MethodResult:
    """Learn the gates of modules as `l0` does; where no set of modules has the exact cost, one leaves in part."""
    options = context.options.gates
    gates = Gates(aim.anatomy, sampled=options.sampled).to(model.device)
    with torch.no_grad():
        gates.units.fill_(SETTLED)
        gates.branches.fill_(UNHARMED + options.spread)
    l0.hold_protected(gates, aim)
    return l0.learned(model, gates, context, aim, plan=lambda: plan_for_target(aim, _scores(gates, aim)))


def _scores(gates: Gates, aim: PruningTarget) -> Tensor:
    """(units,) the modules in their order; within one, units leave in the order of their numbers."""
    survival = keep_probability(gates.branches.detach().double().cpu())
    order = survival.argsort().argsort().double()
    return order[aim.anatomy.owner] + ranks_within(aim.anatomy, -torch.arange(len(aim.anatomy.owner)))
