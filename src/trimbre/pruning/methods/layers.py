"""Evenly spaced layer removal (as in DistilBERT and Distil-Whisper): whole blocks are cut, first and last stay."""

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from trimbre.plan import Plan
from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Skip as many blocks as the share allows; where no number of blocks meets it, one of them is cut in part.

    The units of that block are cut in the order of their indices.
    """
    layers = sorted({group.layer for group in target.free if group.layer is not None})
    order = evenly_spaced(len(layers), target.share)
    turn: dict[int | None, int] = {layer: position for position, layer in enumerate(layers[place] for place in order)}
    return one_shot(in_turn(target, [turn.get(group.layer, len(layers)) for group in target.anatomy.groups]), target)


def in_turn(target: PruningTarget, turns: Sequence[int]) -> Plan:
    """Skip the groups of the first turn, then those of the second, until the target is met; the last are cut in part.

    Args:
        turns: of every group.
    """
    owner = target.anatomy.owner
    places = ranks_within(target.anatomy, -torch.arange(len(owner)))
    return plan_for_target(target, torch.tensor(turns, dtype=torch.float64)[owner] + places)


def evenly_spaced(count: int, share: float) -> list[int]:
    """Indices of the blocks to remove for a `share` of `count`, so that those that stay are evenly spaced."""
    remove = min(count, math.ceil(share * count - 1e-9))
    stay = count - remove
    kept = {round(place * (count - 1) / (stay - 1)) for place in range(stay)} if stay > 1 else set(range(stay))
    return [place for place in range(count) if place not in kept]
