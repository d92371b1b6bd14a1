"""Evenly spaced layer removal (as DistilBERT and Distil-Whisper start): whole blocks leave, the first and last stay."""

import math

import torch
from transformers import PreTrainedModel

from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

LEARNS = False


def choose(model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> MethodResult:
    """Skip as many blocks as the share allows; where no number of blocks is the share, one of them leaves in part.

    The units of that one leave in the order of their numbers.
    """
    free = [group for group, safe in zip(aim.anatomy.groups, aim.protected, strict=True) if not safe]
    layers = sorted({group.layer for group in free if group.layer is not None})
    order = leaving(len(layers), aim.share)
    turn: dict[int | None, int] = {layer: position for position, layer in enumerate(layers[place] for place in order)}
    last = len(layers)
    worth = torch.tensor([float(turn.get(group.layer, last)) for group in aim.anatomy.groups], dtype=torch.float64)
    places = ranks_within(aim.anatomy, -torch.arange(len(aim.anatomy.owner)))
    return one_shot(plan_for_target(aim, worth[aim.anatomy.owner] + places), aim)


def leaving(count: int, share: float) -> list[int]:
    """Which of `count` blocks leave for a `share`, first to last, so that those that stay are evenly spaced."""
    leave = min(count, math.ceil(share * count - 1e-9))
    stay = count - leave
    kept = {round(place * (count - 1) / (stay - 1)) for place in range(stay)} if stay > 1 else set(range(stay))
    return [place for place in range(count) if place not in kept]
