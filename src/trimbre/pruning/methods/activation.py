"""One-shot pruning by activations (Wanda, Sun et al. 2024, over whole units): those that add least energy leave."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.anatomy import Group
from trimbre.models.positions import valid_frames
from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

LEARNS = False


def choose(model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> MethodResult:
    """Cut the same share of every module: energies of unlike modules say nothing of each other."""
    energies = context.training.accelerator.reduce(energy(model, context, aim), reduction="mean")
    return one_shot(plan_for_target(aim, ranks_within(aim.anatomy, energies.cpu())), aim)


@torch.no_grad()
def energy(model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> Tensor:
    """(units,) mean squared output of each unit times the squared norm of the weights that read it."""
    groups = aim.anatomy.groups
    sums: list[Any] = [0.0] * len(groups)
    count = 0
    for batch in context.heard(context.options.calibration_batches):
        count += 1
        for position, squares in enumerate(_squares(model, batch, groups)):
            sums[position] = sums[position] + squares
    found = []
    for group, total in zip(groups, sums, strict=True):
        consumer: Any = model.get_submodule(group.consumer)
        weights = consumer.weight.double().flatten(1).square().sum(0)
        found.append((total / count * weights).reshape(group.size, -1).sum(1))
    return torch.cat(found)


def _squares(model: PreTrainedModel, batch: Batch, groups: tuple[Group, ...]) -> list[Tensor]:
    """(channels,) mean square of every consumer's input over the valid frames of a batch."""
    found: dict[str, Tensor] = {}

    def watch(group: Group) -> Any:
        def note(module: Any, args: tuple[Tensor, ...]) -> None:
            units = args[0].transpose(1, 2) if group.kind.channel_axis == 1 else args[0]
            valid = valid_frames(model, batch.inputs, units, positions=group.positions)
            found[group.path] = units[valid].double().square().mean(0)

        return note

    handles = [model.get_submodule(group.consumer).register_forward_pre_hook(watch(group)) for group in groups]
    try:
        model.eval()(**batch.inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [found[group.path] for group in groups]
