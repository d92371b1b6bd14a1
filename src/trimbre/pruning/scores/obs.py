"""Second-order importance: what the loss loses with a unit once the units that stay have made up for what they can.

Optimal Brain Surgeon (Hassibi & Stork 1993) over whole units, with the curvature of each consuming projection factored
as in K-FAC (Martens & Grosse 2015): into second moments of what the projection reads, and of the loss's slope over what
it writes. The weights move as units leave, as the refit moves them after the cut. Neighbours are ZipLM (Kurtic et al.
2023) and the LLM Surgeon (van der Ouderaa et al. 2024).
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.anatomy import Group
from trimbre.models.positions import valid_frames
from trimbre.pruning.least_squares import RIDGE, frame_weights, gram, with_bias_column, with_ridge
from trimbre.pruning.scores.taylor import frozen_eval

ROUNDS = 64
"""How often units leave a projection, a few at a time."""


@dataclass(frozen=True)
class Moments:
    """Second moments at one consuming projection, in float64."""

    inputs: Tensor
    """(channels + 1, channels + 1): mean over frames of x x^T, with a one after the channels for the bias.

    Frames count by the loss's slopes there, see `leastsquares`.
    """
    slopes: Tensor
    """(dim, dim): sum over a batch's frames of g g^T, mean over batches, g being the loss's slope over the output."""


def moments(
    model: PreTrainedModel,
    groups: Sequence[Group],
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
    *,
    mean: Callable[[Tensor], Tensor] = lambda own: own,
) -> list[Moments]:
    """Moments of every group's consumer over the valid frames of `batches`; the model's weights are left alone.

    Args:
        loss: must not be at its minimum, as for `importance`.
        mean: averages a tensor over the processes that hear batches of their own.
    """
    inner: list[Any] = [0.0] * len(groups)
    outer: list[Any] = [0.0] * len(groups)
    count = 0
    with frozen_eval(model):
        for batch in batches:
            for place, (inputs, slopes) in enumerate(_observed(model, groups, batch, loss)):
                counted = frame_weights(slopes).sqrt().unsqueeze(1) * inputs
                # The last entry, one times one, adds up what the frames count.
                inner[place] = inner[place] + gram(counted).double()
                outer[place] = outer[place] + gram(slopes).double()
            count += 1
    inner = [mean(one) for one in inner]
    return [Moments(one / one[-1, -1], mean(other) / count) for one, other in zip(inner, outer, strict=True)]


def _observed(
    model: PreTrainedModel, groups: Sequence[Group], batch: Batch, loss: Callable[[Batch], Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Of every group (valid frames, channels + 1) that its consumer reads, and (valid frames, dim) the slopes."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def watch(path: str) -> Any:
        def note(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
            inputs[path] = args[0].detach()
            outputs[path] = output if output.requires_grad else output.requires_grad_()

        return note

    with ExitStack() as stack:
        for group in groups:
            consumer = model.get_submodule(group.consumer)
            stack.callback(consumer.register_forward_hook(watch(group.consumer)).remove)
        value = loss(batch)
    gradients = torch.autograd.grad(value, [outputs[group.consumer] for group in groups])
    found = []
    for group, slopes in zip(groups, gradients, strict=True):
        read = inputs[group.consumer]
        if group.kind.channel_axis == 1:
            read, slopes = read.transpose(1, 2), slopes.transpose(1, 2)
        valid = valid_frames(model, batch.inputs, read, positions=group.positions)
        found.append((with_bias_column(read[valid].float()), slopes[valid].float()))
    return found


def losses(
    weight: Tensor, found: Moments, *, rows: int = 1, bias: bool = True, rounds: int = ROUNDS, ridge: float = RIDGE
) -> Tensor:
    """(units,) how much the loss rises as units leave, the cheapest first, the rest making up for each as it leaves.

    With H the moments of what is read, W the weights as they stand and G the moments of the slopes, unit u costs

        tr(G W_u [H^-1]_uu^-1 W_u^T) / 2,

    and as it leaves W moves by -W_u [H^-1]_uu^-1 [H^-1]_u. No unit counts as cheaper than one that left before it.

    Args:
        weight: (dim, channels) of the projection.
        rows: channels of one unit.
        bias: the projection has one, which makes up for what a unit is on average.
        rounds: how often units leave, as many at a time as that takes.
        ridge: pull toward the weights that are there, as in `refit`.
    """
    system = with_ridge(found.inputs, ridge)
    # The bias never leaves.
    inverse = torch.linalg.inv(system)[:-1, :-1] if bias else torch.linalg.inv(system[:-1, :-1])
    # |R W_u|^2 is tr(G W_u W_u^T) for G = R^T R, and R W moves as W does.
    values, vectors = torch.linalg.eigh(found.slopes)
    weight = values.clamp_min(0).sqrt().unsqueeze(1) * (vectors.T @ weight.double())
    units = weight.shape[1] // rows
    left = torch.arange(units, device=weight.device)
    scores = weight.new_zeros(units)
    dearest = weight.new_zeros(())
    while len(left):
        costs = _costs(weight, inverse, rows)
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


def _costs(weight: Tensor, inverse: Tensor, rows: int) -> Tensor:
    """(units,) what each of the units that are left would cost if it left next."""
    units = weight.shape[1] // rows
    own = weight.view(len(weight), units, rows).permute(1, 2, 0)  # (units, rows, dim)
    blocks = inverse.view(units, rows, units, rows).diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (units, rows, rows)
    return torch.linalg.solve(blocks, own @ own.transpose(1, 2)).diagonal(dim1=1, dim2=2).sum(-1) / 2
