"""Refit of a front end: re-solves what reads its channels, by least squares toward the dense model's outputs there.

Between two convolutions there is no residual stream. What the second one puts out, before its activation, is brought
nearest to what it puts out in the dense model, in the channels that stay of it. So it is with modules whose block is no
residual stream.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.anatomy import Anatomy, Group
from trimbre.models.families.registry import anatomy_of
from trimbre.models.positions import valid_frames
from trimbre.plan import Plan
from trimbre.progress import progress
from trimbre.pruning.least_squares import Correction, frame_weights
from trimbre.pruning.unfolding import put_out_by, read_by


def refit_channels(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    plan: Plan,
    groups: Sequence[Group],
    batches: Sequence[Batch],
    *,
    ridge: float,
    loss: Callable[[Batch], Tensor] | None,
    reduce_sum: Callable[[Tensor], Tensor],
) -> None:
    """Re-solve the consumers of `groups`, weight and bias, in place and in the order of the forward pass.

    Args:
        student: `teacher` cut by `plan`; both in eval mode.
        groups: of the student, no residual branches.
        ridge, loss, reduce_sum: as `refit` takes them.

    Raises:
        UserError: a convolution has no finite solution; it names it.
    """
    if not groups:
        return
    rows = anatomy_of(teacher)
    weights = [None if loss is None else _weights(teacher, groups, batch, loss) for batch in batches]
    with progress("refit", len(groups)) as show:
        for done, group in enumerate(groups, 1):
            consumer = student.get_submodule(group.consumer)
            kept = outputs_kept(rows, plan, group)
            correction = Correction(consumer, ridge, reduce_sum, name=group.consumer)
            for batch, counts in zip(batches, weights, strict=True):
                read, found = _passed(student, group, batch)
                wanted = _passed(teacher, group, batch)[1]
                missing = (wanted if kept is None else wanted[..., list(kept)]) - found
                valid = valid_frames(student, batch.inputs, read, positions=group.positions)
                correction.add(read[valid], missing[valid], None if counts is None else counts[group.consumer])
            correction.apply()
            show(done)


def outputs_kept(anatomy: Anatomy, plan: Plan, group: Group) -> tuple[int, ...] | None:
    """The dense outputs that the consumer of `group` still has: channels that the next group kept; None for all."""
    weight = f"{group.consumer}.weight"
    for other in anatomy.groups:
        if any(f"{other.home}.{row.tensor}" == weight and row.axis == 0 for row in other.kind.slices):
            return plan.kept[other.path]
    return None


def _weights(
    teacher: PreTrainedModel, groups: Sequence[Group], batch: Batch, loss: Callable[[Batch], Tensor]
) -> dict[str, Tensor]:
    """Consumer -> (valid frames,) how much each of its frames counts, by the gradient of the teacher's loss there."""
    outputs: dict[str, Tensor] = {}

    def record(path: str) -> Any:
        def hook(module: Any, args: Any, output: Tensor) -> None:
            outputs[path] = output if output.requires_grad else output.requires_grad_()

        return hook

    with ExitStack() as stack, torch.enable_grad():
        for group in groups:
            stack.callback(teacher.get_submodule(group.consumer).register_forward_hook(record(group.consumer)).remove)
        gradients = torch.autograd.grad(loss(batch), [outputs[group.consumer] for group in groups])
    counts = {}
    for group, own in zip(groups, gradients, strict=True):
        slopes = put_out_by(group, own)
        valid = valid_frames(teacher, batch.inputs, slopes, positions=group.positions)
        counts[group.consumer] = frame_weights(slopes[valid].float())
    return counts


def _passed(model: PreTrainedModel, group: Group, batch: Batch) -> tuple[Tensor, Tensor]:
    """What a group's consumer reads (batch, time, columns) and puts out (batch, time, dim); no more of it is run."""
    found: list[Tensor] = []

    def record(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        found.extend((read_by(module, args[0], group).float(), put_out_by(group, output).float()))
        raise Stop

    with ExitStack() as stack, suppress(Stop):
        stack.callback(model.get_submodule(group.consumer).register_forward_hook(record).remove)
        model(**batch.inputs)
    return found[0], found[1]


class Stop(Exception):
    """Ends a forward of which all that is needed was recorded."""
