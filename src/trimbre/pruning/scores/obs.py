"""Optimal Brain Surgeon scores for whole units: the loss increase when a unit is removed and the rest is re-solved.

Optimal Brain Surgeon (Hassibi & Stork 1993) over whole units, with the curvature of each consuming projection factored
as in K-FAC (Martens & Grosse 2015): into the second moments of its inputs and of the loss's gradients with respect to
its outputs. The remaining weights change with each removal, as the refit changes them after the cut. Related methods:
ZipLM (Kurtic et al. 2023) and the LLM Surgeon (van der Ouderaa et al. 2024).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.anatomy import Group
from trimbre.models.hookable import hookable
from trimbre.models.positions import valid_frames
from trimbre.progress import progress
from trimbre.pruning.frozen import frozen_eval
from trimbre.pruning.least_squares import RIDGE, frame_weights, gram, with_bias_column, with_ridge
from trimbre.pruning.numerics import float64
from trimbre.pruning.unfolding import put_out_by, read_by

ROUNDS = 64
"""Rounds in which the units of a projection are removed, a few at a time."""
MOMENTS_BYTES = 2**30
"""Memory that second moments may take at once."""


@dataclass(frozen=True)
class Moments:
    """Second moments at one consuming projection, in float64."""

    inputs: Tensor
    """(channels + 1, channels + 1): mean over frames of x x^T, with a one after the channels for the bias.

    A convolution has a channel here for every tap of its kernel. Frames are weighted by the loss's squared gradient
    there, see `least_squares`.
    """
    gradients: Tensor
    """(dim, dim): sum over a batch's frames of g g^T, mean over batches, with g the loss's gradient at the output."""


def obs_scores(
    model: PreTrainedModel,
    groups: Sequence[Group],
    batches: Callable[[], Iterable[Batch]],
    loss: Callable[[Batch], Tensor],
    *,
    reduce_mean: Callable[[Tensor], Tensor] = lambda own: own,
) -> dict[str, Tensor]:
    """Scores of the units of `groups`: path -> (units,) float64 on the CPU. The model is left as it was.

    Where the second moments of all projections exceed MOMENTS_BYTES, the batches are run again for each part of them.

    Args:
        batches: returns the calibration batches, the same ones at every call.
        loss: of `model` on a batch, not at its minimum, as for `taylor_scores`.
        reduce_mean: averages a tensor over the processes that run batches of their own.
    """
    scores = {}
    with progress("scores", len(groups)) as show:
        for part in parts(model, groups):
            moments = collect_moments(model, part, batches(), loss, reduce_mean=reduce_mean)
            for group, own in zip(part, moments, strict=True):
                bias = model.get_submodule(group.consumer).bias is not None
                weight = _consumer_weight(model, group)
                rows = weight.shape[1] // max(group.size, 1)
                scores[group.path] = projection_scores(weight, own, rows=rows, bias=bias).cpu()
                show(len(scores))
    return scores


def parts(model: PreTrainedModel, groups: Sequence[Group]) -> Iterator[list[Group]]:
    """The groups in order, as many at a time as their second moments fit into MOMENTS_BYTES, at least one."""
    part: list[Group] = []
    held = 0
    for group in groups:
        size = 8 * sum(side * side for side in _consumer_weight(model, group).shape)
        if part and held + size > MOMENTS_BYTES:
            yield part
            part, held = [], 0
        part.append(group)
        held += size
    if part:
        yield part


def collect_moments(
    model: PreTrainedModel,
    groups: Sequence[Group],
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
    *,
    reduce_mean: Callable[[Tensor], Tensor] = lambda own: own,
) -> list[Moments]:
    """Moments at every group's consumer over the valid frames of `batches`; arguments as of `obs_scores`."""
    inner: list[Any] = [0.0] * len(groups)
    outer: list[Any] = [0.0] * len(groups)
    count = 0
    with frozen_eval(model), hookable(model):
        for batch in batches:
            for place, (inputs, gradients) in enumerate(_recorded(model, groups, batch, loss)):
                weighted = frame_weights(gradients).sqrt().unsqueeze(1) * inputs
                # The last entry, one times one, is the sum of the frames' weights.
                inner[place] = inner[place] + float64(gram(weighted))
                outer[place] = outer[place] + float64(gram(gradients))
            count += 1
    inner = [reduce_mean(one) for one in inner]
    return [Moments(one / one[-1, -1], reduce_mean(other) / count) for one, other in zip(inner, outer, strict=True)]


def _recorded(
    model: PreTrainedModel, groups: Sequence[Group], batch: Batch, loss: Callable[[Batch], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Per group, its consumer's inputs (valid frames, channels + 1) and the gradients at its outputs (..., dim).

    One at a time: what a convolution reads at its positions is as many times larger as its kernel is long.
    """
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def record(path: str) -> Any:
        def hook(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
            inputs[path] = args[0].detach()
            outputs[path] = output if output.requires_grad else output.requires_grad_()

        return hook

    with ExitStack() as stack:
        for group in groups:
            consumer = model.get_submodule(group.consumer)
            stack.callback(consumer.register_forward_hook(record(group.consumer)).remove)
        value = loss(batch)
    all_gradients = torch.autograd.grad(value, [outputs[group.consumer] for group in groups])
    for group, gradients in zip(groups, all_gradients, strict=True):
        units = read_by(model.get_submodule(group.consumer), inputs[group.consumer], group)
        valid = valid_frames(model, batch.inputs, units, positions=group.positions)
        yield with_bias_column(units[valid].float()), put_out_by(group, gradients)[valid].float()


def projection_scores(
    weight: Tensor, moments: Moments, *, rows: int = 1, bias: bool = True, rounds: int = ROUNDS, ridge: float = RIDGE
) -> Tensor:
    """(units,) loss increase at the removal of each unit of one projection, the cheapest first.

    With H the second moments of the inputs, W the weights as they stand and G those of the gradients, unit u costs

        tr(G W_u [H^-1]_uu^-1 W_u^T) / 2,

    and at its removal W changes by -W_u [H^-1]_uu^-1 [H^-1]_u. No unit scores below one that was removed before it.

    Args:
        weight: (dim, channels) of the projection.
        rows: channels of one unit; of a convolution, times the taps of its kernel.
        bias: the projection has one, which compensates for a unit's mean.
        rounds: number of rounds, each of which removes the same number of units.
        ridge: weight of the pull toward the weights as they are, as in `refit`.
    """
    system = with_ridge(moments.inputs, ridge)
    # The bias is never removed.
    inverse = torch.linalg.inv(system)[:-1, :-1] if bias else torch.linalg.inv(system[:-1, :-1])
    # |R W_u|^2 is tr(G W_u W_u^T) for G = R^T R, and R W changes as W does.
    values, vectors = torch.linalg.eigh(moments.gradients)
    weight = values.clamp_min(0).sqrt().unsqueeze(1) * (vectors.T @ float64(weight))
    units = weight.shape[1] // rows
    left = torch.arange(units, device=weight.device)
    scores = weight.new_zeros(units)
    dearest = weight.new_zeros(())
    while len(left):
        costs = _removal_costs(weight, inverse, rows)
        gone = torch.argsort(costs, stable=True)[: max(1, units // rounds)]
        scores[left[gone]] = costs[gone].clamp_min(dearest)
        dearest = scores[left[gone]].max()
        stays = torch.ones_like(left, dtype=torch.bool).index_fill(0, gone, value=False)
        out, stay = (~stays).repeat_interleave(rows), stays.repeat_interleave(rows)
        by = torch.linalg.solve(inverse[out][:, out], inverse[out][:, stay])
        weight = weight[:, stay] - weight[:, out] @ by
        inverse = inverse[stay][:, stay] - inverse[stay][:, out] @ by
        left = left[stays]
    return scores


def _removal_costs(weight: Tensor, inverse: Tensor, rows: int) -> Tensor:
    """(units,) loss increase if each of the remaining units were the next to be removed."""
    units = weight.shape[1] // rows
    own = weight.view(len(weight), units, rows).permute(1, 2, 0)  # (units, rows, dim)
    blocks = inverse.view(units, rows, units, rows).diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (units, rows, rows)
    return torch.linalg.solve(blocks, own @ own.transpose(1, 2)).diagonal(dim1=1, dim2=2).sum(-1) / 2


def _consumer_weight(model: PreTrainedModel, group: Group) -> Tensor:
    """(dim, channels) of a group's consumer."""
    return model.get_submodule(group.consumer).get_parameter("weight").detach().flatten(1)
