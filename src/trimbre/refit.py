"""A corrective refit after the cut: each branch's last projection is solved anew so that its stream is the teacher's.

What a branch lost when units left, the units that stay can make up for in part, and the best linear way to do so is a
least-squares problem: no gradient, a few batches of audio, seconds. It's done in the order of the forward pass, so that
each projection also corrects what the branches before it could not.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimbre.anatomy import Group, anatomy_of
from trimbre.data.batches import Batch
from trimbre.distill import valid_frames

RIDGE = 1e-2
"""Pull toward the weights that are there, relative to the mean energy of the projection's inputs."""


@torch.no_grad()
def refit(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batches: Iterable[Batch],
    *,
    ridge: float = RIDGE,
    together: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> None:
    """Solve the consuming projection of every branch of `student` anew, in place, weight and bias.

    With x the units' outputs (frames, units), s the residual stream before the branch, t the teacher's stream after it
    and f the factor on the branch (a half for Conformer's feed-forwards), the new weights minimise
    |s + f (x W + b) - t|^2 over the valid frames of `batches`, plus the ridge on how far they move.

    Args:
        student: a cut model of the same family as `teacher`; both are run in eval mode.
        together: adds a tensor up over the processes that bring batches of their own.
    """
    heard = list(batches)
    training = student.training
    student.eval()
    factors, streams = _teacher_streams(teacher, heard, together)
    for group in anatomy_of(student).groups:
        problem = _Problem(ridge, together)
        for batch, after in zip(heard, streams, strict=True):
            before, units = _captured(student, batch, [_stream(group), group.consumer])
            if group.kind.channel_axis == 1:
                units = units.transpose(1, 2)
            valid = valid_frames(student, batch.inputs, units)
            problem.add(units[valid], (after[group.path] - before)[valid] / factors[group.path])
        problem.solve(student.get_submodule(group.consumer))
    student.train(training)


class _Problem:
    """Normal equations of one projection, gathered batch by batch in float64."""

    def __init__(self, ridge: float, together: Callable[[Tensor], Tensor]):
        self.ridge, self.together = ridge, together
        self.inner: Tensor | float = 0.0
        self.outer: Tensor | float = 0.0

    def add(self, inputs: Tensor, wanted: Tensor) -> None:
        """(frames, inputs) and (frames, outputs)."""
        x = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1).double()
        self.inner = self.inner + x.T @ x
        self.outer = self.outer + x.T @ wanted.double()

    def solve(self, projection: Any) -> None:
        """Give the projection the weights that solve it."""
        assert isinstance(self.inner, Tensor)
        assert isinstance(self.outer, Tensor)
        weight = projection.weight.flatten(1).T.double()
        bias = weight.new_zeros(weight.shape[1]) if projection.bias is None else projection.bias.double()
        here = torch.cat([weight, bias.unsqueeze(0)])
        inner, outer = self.together(self.inner), self.together(self.outer)
        if projection.bias is None:
            inner, outer, here = inner[:-1, :-1], outer[:-1], here[:-1]
        pull = self.ridge * inner.diagonal().mean() * torch.eye(len(inner), dtype=inner.dtype, device=inner.device)
        solved = here + torch.linalg.solve(inner + pull, outer - inner @ here)
        projection.weight.copy_(solved[: len(weight)].T.reshape(projection.weight.shape))
        if projection.bias is not None:
            projection.bias.copy_(solved[-1])


def _teacher_streams(
    teacher: PreTrainedModel, heard: Sequence[Batch], together: Callable[[Tensor], Tensor]
) -> tuple[dict[str, float], list[dict[str, Tensor]]]:
    """The factor on every branch, and for every batch the streams after them, (batch, time, dim), by the branch."""
    groups = anatomy_of(teacher).groups
    sums = torch.zeros(2, len(groups), dtype=torch.float64, device=teacher.device)
    streams: list[dict[str, Tensor]] = []
    for batch in heard:
        befores, afters, branches = (
            [_stream(g) for g in groups],
            [g.after for g in groups],
            [g.consumer for g in groups],
        )
        found = _captured(teacher, batch, [*befores, *afters], branches)
        thirds = (found[start : start + len(groups)] for start in range(0, 3 * len(groups), len(groups)))
        streams.append({})
        for position, (before, after, branch) in enumerate(zip(*thirds, strict=True)):
            if groups[position].kind.channel_axis == 1:
                branch = branch.transpose(1, 2)
            valid = valid_frames(teacher, batch.inputs, after)
            sums[0, position] += ((after - before)[valid] * branch[valid]).sum(dtype=torch.float64)
            sums[1, position] += branch[valid].square().sum(dtype=torch.float64)
            streams[-1][groups[position].path] = after
    products, energies = together(sums)
    return dict(zip((g.path for g in groups), (products / energies).tolist(), strict=True)), streams


def _stream(group: Group) -> str:
    """The module whose input is the residual stream before the branch."""
    return group.norm or group.path


def _captured(model: nn.Module, batch: Batch, inputs_of: Sequence[str], outputs_of: Sequence[str] = ()) -> list[Tensor]:
    """Run the model; return the inputs of some modules, then the outputs of others, (batch, time, dim) each."""
    entered: dict[str, Tensor] = {}
    left: dict[str, Tensor] = {}

    def keep_input(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Any]) -> None:
            entered[path] = args[0] if args else kwargs["hidden_states"]

        return hook

    def keep_output(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            left[path] = output[0] if isinstance(output, tuple) else output

        return hook

    with _hooks() as handles:
        for path in set(inputs_of):
            handles.append(model.get_submodule(path).register_forward_pre_hook(keep_input(path), with_kwargs=True))
        for path in outputs_of:
            handles.append(model.get_submodule(path).register_forward_hook(keep_output(path)))
        model(**batch.inputs)
    return [entered[path].float() for path in inputs_of] + [left[path].float() for path in outputs_of]


@contextmanager
def _hooks() -> Any:
    handles: list[Any] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()
