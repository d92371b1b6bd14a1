"""Activation scores: the energy that a unit adds to its branch (Wanda, Sun et al. 2024, over whole units)."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.anatomy import Group
from trimbre.models.positions import valid_frames
from trimbre.pruning.frozen import eval_mode
from trimbre.pruning.numerics import float64


@torch.no_grad()
def activation_scores(model: PreTrainedModel, groups: Sequence[Group], batches: Iterable[Batch]) -> Tensor:
    """(units,) float64: mean square of each unit's output times the squared norm of the weights that read it.

    The model is run in eval mode on the valid frames of `batches` and left as it was.
    """
    sums: list[Any] = [0.0] * len(groups)
    count = 0
    with eval_mode(model):
        for batch in batches:
            count += 1
            for position, squares in enumerate(_mean_squares(model, batch, groups)):
                sums[position] = sums[position] + squares
    found = []
    for group, total in zip(groups, sums, strict=True):
        consumer: Any = model.get_submodule(group.consumer)
        weights = float64(consumer.weight).flatten(1).square().sum(0)
        found.append((total / count * weights).reshape(group.size, -1).sum(1))
    return torch.cat(found)


def _mean_squares(model: PreTrainedModel, batch: Batch, groups: Sequence[Group]) -> list[Tensor]:
    """(channels,) mean square of every consumer's input over the valid frames of a batch."""
    found: dict[str, Tensor] = {}

    def record(group: Group) -> Any:
        def hook(module: Any, args: tuple[Tensor, ...]) -> None:
            units = args[0].transpose(1, 2) if group.kind.channel_axis == 1 else args[0]
            valid = valid_frames(model, batch.inputs, units, positions=group.positions)
            found[group.path] = float64(units[valid]).square().mean(0)

        return hook

    with ExitStack() as stack:
        for group in groups:
            consumer = model.get_submodule(group.consumer)
            stack.callback(consumer.register_forward_pre_hook(record(group)).remove)
        model(**batch.inputs)
    return [found[group.path] for group in groups]
