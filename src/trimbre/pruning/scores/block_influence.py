"""Block influence: how far a block turns its residual stream (ShortGPT, Men et al. 2024)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.anatomy import Group
from trimbre.models.families.registry import head_of
from trimbre.models.positions import valid_frames
from trimbre.pruning.frozen import eval_mode
from trimbre.pruning.numerics import float64


@torch.no_grad()
def block_influence(
    model: PreTrainedModel,
    groups: Sequence[Group],
    batches: Iterable[Batch],
    *,
    reduce_mean: Callable[[Tensor], Tensor] = lambda own: own,
) -> dict[str, float]:
    """Block -> 1 less the mean cosine of its input and output over valid frames, 0 to 2.

    The model is run in eval mode and left as it was.

    Args:
        groups: those of the blocks to measure; front ends lie in none.
        reduce_mean: averages a tensor over the processes that run batches of their own.
    """
    blocks = {group.block: group for group in groups if group.residual}
    sums: Any = 0.0
    with eval_mode(model):
        for batch in batches:
            sums = sums + _cosines(model, blocks, batch)
    cosines, frames = reduce_mean(sums).unbind(1)
    return dict(zip(blocks, (1 - cosines / frames).tolist(), strict=True))


def _cosines(model: PreTrainedModel, blocks: Mapping[str, Group], batch: Batch) -> Tensor:
    """(blocks, 2) float64: sum of the cosines over valid frames, and their number."""
    found: dict[str, Tensor] = {}

    def record(block: str, group: Group) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            valid = valid_frames(model, batch.inputs, after, positions=group.positions)
            cosines = functional.cosine_similarity(float64(before[valid]), float64(after[valid]), dim=-1)
            found[block] = torch.stack([cosines.sum(), torch.full_like(cosines.sum(), len(cosines))])

        return hook

    with ExitStack() as stack:
        for block, group in blocks.items():
            hook = record(block, group)
            stack.callback(model.get_submodule(block).register_forward_hook(hook, with_kwargs=True).remove)
        head_of(model).forward(model, batch.inputs)
    return torch.stack([found[block] for block in blocks])
