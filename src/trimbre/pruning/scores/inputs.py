"""Statistics of what the consumers of units read, the raw material of scores from activations."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.anatomy import Group
from trimbre.models.families.registry import head_of
from trimbre.models.hookable import hookable
from trimbre.models.positions import valid_frames
from trimbre.pruning.frozen import eval_mode
from trimbre.pruning.numerics import float64
from trimbre.pruning.unfolding import read_by

Statistic: TypeAlias = Callable[[Group, Tensor, Tensor], Tensor]
"""Of a group, what its consumer reads (batch, time, channels) and the valid positions (batch, time) bool -> float64.

A convolution has a channel here for every tap of its kernel (`read_by`)."""


@torch.no_grad()
def input_statistics(
    model: PreTrainedModel,
    groups: Sequence[Group],
    batches: Iterable[Batch],
    statistic: Statistic,
    *,
    reduce_mean: Callable[[Tensor], Tensor] = lambda own: own,
) -> list[Tensor]:
    """A statistic of every group's consumer input, mean over `batches`. The model is left as it was.

    Args:
        reduce_mean: averages a tensor over the processes that run batches of their own.
    """
    sums: list[Any] = [0.0] * len(groups)
    count = 0
    with eval_mode(model), hookable(model):
        for batch in batches:
            count += 1
            for place, own in enumerate(_of_batch(model, groups, batch, statistic)):
                sums[place] = sums[place] + own
    return [reduce_mean(total / count) for total in sums]


def _of_batch(model: PreTrainedModel, groups: Sequence[Group], batch: Batch, statistic: Statistic) -> list[Tensor]:
    found: dict[str, Tensor] = {}

    def record(group: Group) -> Any:
        def hook(module: Any, args: tuple[Tensor, ...]) -> None:
            units = read_by(module, args[0], group)
            valid = valid_frames(model, batch.inputs, units, positions=group.positions)
            found[group.path] = statistic(group, units, valid)

        return hook

    with ExitStack() as stack:
        for group in groups:
            consumer = model.get_submodule(group.consumer)
            stack.callback(consumer.register_forward_pre_hook(record(group)).remove)
        head_of(model).forward(model, batch.inputs)
    return [found[group.path] for group in groups]


def mean_squares(group: Group, units: Tensor, valid: Tensor) -> Tensor:
    """(channels,) mean square over the valid frames of a batch."""
    return float64(units[valid]).square().mean(0)


def consumer_weight(model: PreTrainedModel, group: Group) -> Tensor:
    """(dim, channels) float64 of the projection that reads a group's units."""
    return float64(model.get_submodule(group.consumer).get_parameter("weight").detach()).flatten(1)
