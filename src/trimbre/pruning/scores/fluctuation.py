"""Fluctuation of activations, and biases that stand in for the units that left (FLAP, An et al. 2024)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.anatomy import Group
from trimbre.plan import Plan
from trimbre.pruning.numerics import float64
from trimbre.pruning.scores.inputs import consumer_weight, input_statistics


@dataclass(frozen=True)
class Fluctuation:
    """First two moments of a consumer's input over the valid frames, (channels,) float64 each."""

    mean: Tensor
    variance: Tensor


def fluctuations(
    model: PreTrainedModel,
    groups: Sequence[Group],
    batches: Iterable[Batch],
    *,
    reduce_mean: Callable[[Tensor], Tensor] = lambda own: own,
) -> list[Fluctuation]:
    """Mean and variance of what every group's consumer reads; the model is left as it was."""
    found = []
    for sums, squares, counts in input_statistics(model, groups, batches, _sums, reduce_mean=reduce_mean):
        mean = sums / counts
        found.append(Fluctuation(mean, (squares / counts - mean.square()).clamp_min(0)))
    return found


def _sums(group: Group, units: Tensor, valid: Tensor) -> Tensor:
    """(3, channels): sums over frames of the channels and of their squares, and the number of frames."""
    frames = float64(units[valid])
    return torch.stack([frames.sum(0), frames.square().sum(0), torch.full_like(frames[0], len(frames))])


def fluctuation_scores(model: PreTrainedModel, groups: Sequence[Group], found: Sequence[Fluctuation]) -> list[Tensor]:
    """Per group (units,) float64 on the CPU: variance times the squared norm of the weights that read it.

    Standardised over the channels of every module, so that modules are comparable; a head has the mean of its
    channels' scores.
    """
    scores = []
    for group, own in zip(groups, found, strict=True):
        metric = own.variance * consumer_weight(model, group).square().sum(0)
        spread = metric.std(correction=0)
        alike = bool(spread <= 1e-12 * metric.mean())  # all average, and their spread nothing but rounding
        level = torch.zeros_like(metric) if alike else (metric - metric.mean()) / spread
        scores.append(level.reshape(group.size, -1).mean(1).cpu())
    return scores


def bias_shifts(
    model: PreTrainedModel, groups: Sequence[Group], found: Sequence[Fluctuation], plan: Plan
) -> Mapping[str, Tensor]:
    """Path -> (dim,) float64: what the units that leave by `plan` put out on average.

    A branch that is skipped takes its bias with it, and a projection without a bias has nowhere to add it: neither has
    a shift.
    """
    shifts = {}
    for group, own in zip(groups, found, strict=True):
        biased = model.get_submodule(group.consumer).bias is not None
        if not biased or group.path in plan.skipped or len(plan.kept[group.path]) == group.size:
            continue
        gone = torch.ones(group.size, dtype=torch.bool)
        gone[list(plan.kept[group.path])] = False
        channels = gone.repeat_interleave(len(own.mean) // group.size).to(own.mean.device)
        shifts[group.path] = consumer_weight(model, group)[:, channels] @ own.mean[channels]
    return shifts
