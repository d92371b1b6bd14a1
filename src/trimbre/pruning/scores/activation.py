"""Scores from activations: what a unit adds to its branch, or how large its output is, over valid frames."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.anatomy import Group
from trimbre.pruning.numerics import float64
from trimbre.pruning.scores.inputs import consumer_weight, input_statistics, mean_squares


def activation_scores(
    model: PreTrainedModel,
    groups: Sequence[Group],
    batches: Iterable[Batch],
    *,
    reduce_mean: Callable[[Tensor], Tensor] = lambda own: own,
) -> Tensor:
    """(units,) float64: mean square of each unit's output times the squared norm of the weights that read it.

    The model is run in eval mode on the valid frames of `batches` and left as it was, here and below.
    """
    found = []
    squares = input_statistics(model, groups, batches, mean_squares, reduce_mean=reduce_mean)
    for group, energy in zip(groups, squares, strict=True):
        weights = consumer_weight(model, group).square().sum(0)
        found.append((energy * weights).reshape(group.size, -1).sum(1))
    return torch.cat(found)


def wanda_scores(
    model: PreTrainedModel,
    groups: Sequence[Group],
    batches: Iterable[Batch],
    *,
    reduce_mean: Callable[[Tensor], Tensor] = lambda own: own,
) -> Tensor:
    """(units,) float64: sum of |W_ij| |x_j| over the weights that read a unit (Wanda, Sun et al. 2024).

    |x_j| is the root mean square of channel j. The sum over whole units is the structured form that An et al. (2024)
    compare with.
    """
    found = []
    squares = input_statistics(model, groups, batches, mean_squares, reduce_mean=reduce_mean)
    for group, energy in zip(groups, squares, strict=True):
        weights = consumer_weight(model, group).abs().sum(0)
        found.append((energy.sqrt() * weights).reshape(group.size, -1).sum(1))
    return torch.cat(found)


def minitron_scores(
    model: PreTrainedModel,
    groups: Sequence[Group],
    batches: Iterable[Batch],
    *,
    reduce_mean: Callable[[Tensor], Tensor] = lambda own: own,
) -> Tensor:
    """(units,) float64: size of each unit's output, without its weights (Minitron, Muralidharan et al. 2024).

    The L2 norm over a unit's channels, mean over the valid frames of an utterance, L2 norm over utterances.
    """
    squares = input_statistics(model, groups, batches, _squared_means, reduce_mean=reduce_mean)
    return torch.cat([own.sqrt() for own in squares])


def _squared_means(group: Group, units: Tensor, valid: Tensor) -> Tensor:
    """(units,) sum over utterances of the squared mean norm of each unit's output."""
    norms = float64(units).unflatten(-1, (group.size, -1)).norm(dim=-1)  # (batch, time, units)
    weights = valid.to(norms).unsqueeze(-1)
    means = (norms * weights).sum(1) / weights.sum(1).clamp_min(1)
    return means.square().sum(0)
