"""First-order Taylor scores of coupled weights: all that leaves with a unit (LLM-Pruner, Ma et al. 2023)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.models.anatomy import Anatomy
from trimbre.pruning.frozen import frozen_eval
from trimbre.pruning.numerics import float64


def coupled_taylor_scores(
    model: PreTrainedModel,
    anatomy: Anatomy,
    batches: Iterable[Any],
    loss: Callable[[Any], Tensor],
    *,
    vectors: bool = False,
    reduce_mean: Callable[[Tensor], Tensor] = lambda own: own,
) -> Tensor:
    """(units,) float64 on the CPU: sum over the weights w that leave with a unit of |w g|, g the mean gradient there.

    The model is run in eval mode and left as it was. Buffers do not count.

    Args:
        loss: of `model` on a batch, not at its minimum, as for `taylor_scores`.
        vectors: |sum of w g| over each row or column that leaves instead, summed over these.
        reduce_mean: averages a tensor over the processes that run batches of their own.
    """
    homes = [dict(model.get_submodule(group.home).named_parameters()) for group in anatomy.groups]
    held = [
        [(row, own[row.tensor]) for row in group.kind.slices if row.tensor in own]
        for group, own in zip(anatomy.groups, homes, strict=True)
    ]
    weights = list({id(weight): weight for rows in held for _, weight in rows}.values())
    gradients = {
        id(weight): reduce_mean(gradient)
        for weight, gradient in zip(weights, _mean_gradients(model, weights, batches, loss), strict=True)
    }
    found = []
    for group, rows in zip(anatomy.groups, held, strict=True):
        scores = torch.zeros(group.size, dtype=torch.float64)
        for row, weight in rows:
            product = (float64(weight.detach()) * float64(gradients[id(weight)])).cpu()
            entries = product.movedim(row.axis, 0).reshape(row.repeats, group.size, row.rows, -1)
            scores += (entries.sum(-1).abs() if vectors else entries.abs().sum(-1)).sum((0, 2))
        found.append(scores)
    return torch.cat(found)


def _mean_gradients(
    model: PreTrainedModel, weights: Sequence[Tensor], batches: Iterable[Any], loss: Callable[[Any], Tensor]
) -> list[Tensor]:
    """The loss's gradients with respect to `weights`, mean over batches."""
    sums = [torch.zeros_like(weight) for weight in weights]
    count = 0
    with frozen_eval(model):
        for weight in weights:
            weight.requires_grad_(True)
        try:
            for batch in batches:
                count += 1
                # A weight that a batch does not reach has no gradient there.
                for total, own in zip(sums, torch.autograd.grad(loss(batch), weights, allow_unused=True), strict=True):
                    if own is not None:
                        total += own
        finally:
            for weight in weights:
                weight.requires_grad_(False)
    return [total / max(count, 1) for total in sums]
