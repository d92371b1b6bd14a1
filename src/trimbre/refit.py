"""A corrective refit after the cut: each branch's last projection is solved anew so that its stream is the teacher's.

What a branch lost when units left, the units that stay can make up for in part, and the best linear way to do so is a
least-squares problem: no gradient, a few batches of audio, seconds. It's done in the order of the forward pass, so that
each projection also corrects what the branches before it could not.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimbre.anatomy import Group, anatomy_of
from trimbre.data.batches import Batch
from trimbre.distill import undisturbed, valid_frames

RIDGE = 1e-2
"""Pull toward the weights that are there, relative to the mean energy of the projection's inputs."""


@torch.no_grad()
def refit(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batches: Iterable[Batch],
    *,
    scope: str = "model",
    ridge: float = RIDGE,
    together: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> None:
    """Solve the consuming projection of every branch of `student` anew, in place, weight and bias.

    With x the units' outputs (frames, units), s the residual stream before the branch, t the teacher's stream after it
    and f the factor on the branch (a half for Conformer's feed-forwards), the new weights minimise
    |s + f (x W + b) - t|^2 over the valid frames of `batches`, plus the ridge on how far they move.

    Each block is run by itself, on what the blocks before it made of every batch: twice as many blocks take twice as
    long and no more memory.

    Args:
        student: a cut model of the same family as `teacher`; both are run in eval mode.
        scope: the part of the model whose branches are refitted.
        together: adds a tensor up over the processes that bring batches of their own.
    """
    heard = list(batches)
    training = student.training
    student.eval()
    groups: dict[str, list[Group]] = {}
    for group in anatomy_of(student).within(scope):
        groups.setdefault(group.block, []).append(group)
    with undisturbed(student), undisturbed(teacher):
        for stack in dict.fromkeys(path.rpartition(".")[0] for path in groups):
            blocks = [f"{stack}.{name}" for name, _ in student.get_submodule(stack).named_children()]
            mine = [_Replay.of(student, batch, blocks) for batch in heard]
            theirs = [_Replay.of(teacher, batch, blocks) for batch in heard]
            for block in blocks:
                _refit_block(student, groups.get(block, []), block, mine, theirs, ridge, together)
    student.train(training)


def _refit_block(
    student: PreTrainedModel,
    groups: Sequence[Group],
    block: str,
    mine: Sequence["_Replay"],
    theirs: Sequence["_Replay"],
    ridge: float,
    together: Callable[[Tensor], Tensor],
) -> None:
    """Refit the branches of one block, first to last, and bring the streams of student and teacher past it."""
    wanted, factors = _teacher_streams(groups, block, theirs, together)
    for position, group in enumerate(groups):
        problem = _Problem(ridge, together)
        for replay, afters in zip(mine, wanted, strict=True):
            before, units = replay.captured(block, [_stream(group), group.consumer])
            if group.kind.channel_axis == 1:
                units = units.transpose(1, 2)
            valid = valid_frames(student, replay.batch.inputs, units, written=group.written)
            problem.add(units[valid], (afters[position] - before)[valid] / factors[position])
        problem.solve(student.get_submodule(group.consumer))
    for replay in mine:
        replay.stream = replay.run(block)


class _Problem:
    """Normal equations of one projection, gathered batch by batch in float64."""

    def __init__(self, ridge: float, together: Callable[[Tensor], Tensor]):
        self.ridge, self.together = ridge, together
        self.inner: Tensor | float = 0.0
        self.outer: Tensor | float = 0.0

    def add(self, inputs: Tensor, wanted: Tensor) -> None:
        """(frames, inputs) and (frames, outputs)."""
        x = with_one(inputs.double())
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
        system = pulled(inner, self.ridge)
        if projection.bias is None:
            inner, outer, here, system = inner[:-1, :-1], outer[:-1], here[:-1], system[:-1, :-1]
        solved = here + torch.linalg.solve(system, outer - inner @ here)
        projection.weight.copy_(solved[: len(weight)].T.reshape(projection.weight.shape))
        if projection.bias is not None:
            projection.bias.copy_(solved[-1])


def with_one(inputs: Tensor) -> Tensor:
    """(frames, channels + 1): `inputs`, (frames, channels), and a one for the bias."""
    return torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)


def pulled(inner: Tensor, ridge: float) -> Tensor:
    """(channels + 1, channels + 1): second moments of `with_one` plus `ridge` times the channels' mean energy."""
    pull = ridge * inner.diagonal()[:-1].mean()
    return inner + pull * torch.eye(len(inner), dtype=inner.dtype, device=inner.device)


def _teacher_streams(
    groups: Sequence[Group], block: str, theirs: Sequence["_Replay"], together: Callable[[Tensor], Tensor]
) -> tuple[list[list[Tensor]], list[float]]:
    """Of every batch the teacher's streams after the branches of a block, (batch, time, dim); the factors on these."""
    sums = torch.zeros(2, len(groups), dtype=torch.float64, device=theirs[0].stream.device)
    streams: list[list[Tensor]] = []
    for replay in theirs:
        within = [group.after for group in groups if group.after.startswith(f"{block}.")]
        found = iter(replay.captured(block, [*map(_stream, groups), *within], [group.consumer for group in groups]))
        befores, afters, branches = (list(islice(found, number)) for number in (len(groups), len(within), len(groups)))
        replay.stream = replay.output
        inside = dict(zip(within, afters, strict=True))
        streams.append([inside.get(group.after, replay.stream.float()) for group in groups])
        for position, (group, before, after, branch) in enumerate(
            zip(groups, befores, streams[-1], branches, strict=True)
        ):
            if group.kind.channel_axis == 1:
                branch = branch.transpose(1, 2)
            valid = valid_frames(replay.model, replay.batch.inputs, after, written=group.written)
            sums[0, position] += ((after - before)[valid] * branch[valid]).sum(dtype=torch.float64)
            sums[1, position] += branch[valid].square().sum(dtype=torch.float64)
    products, energies = together(sums)
    return streams, (products / energies).tolist()


def _stream(group: Group) -> str:
    """The module whose input is the residual stream before the branch."""
    return group.norm or group.path


class _Replay:
    """Runs a model's blocks one by one, as its forward on a batch called them."""

    def __init__(self, model: PreTrainedModel, batch: Batch):
        self.model, self.batch = model, batch
        self.calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        """What every block was given beside the stream: the other arguments, by place and by name."""
        self.stream: Tensor
        """(batch, time, dim), what the next block is given."""
        self.output: Tensor
        """What the block made of it that was run last."""

    @classmethod
    def of(cls, model: PreTrainedModel, batch: Batch, blocks: Sequence[str]) -> "_Replay":
        """Run the model as far as the last of the `blocks` and note what each is called with."""
        replay = cls(model, batch)

        def note(path: str) -> Any:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
                rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
                replay.calls[path] = (args[1:], rest)
                if path == blocks[0]:
                    replay.stream = args[0] if args else kwargs["hidden_states"]
                if path == blocks[-1]:
                    raise _Enough

            return hook

        with _hooks() as handles, suppress(_Enough):
            for path in blocks:
                handles.append(model.get_submodule(path).register_forward_pre_hook(note(path), with_kwargs=True))
            model(**batch.inputs)
        return replay

    def run(self, block: str) -> Tensor:
        """What a block makes of the stream."""
        args, kwargs = self.calls[block]
        output = self.model.get_submodule(block)(self.stream, *args, **kwargs)
        self.output = output[0] if isinstance(output, tuple) else output
        return self.output

    def captured(self, block: str, inputs_of: Sequence[str], outputs_of: Sequence[str] = ()) -> list[Tensor]:
        """Run a block; return the inputs of some modules, then the outputs of others, (batch, time, dim) each."""
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
                module = self.model.get_submodule(path)
                handles.append(module.register_forward_pre_hook(keep_input(path), with_kwargs=True))
            for path in outputs_of:
                handles.append(self.model.get_submodule(path).register_forward_hook(keep_output(path)))
            self.run(block)
        return [entered[path].float() for path in inputs_of] + [left[path].float() for path in outputs_of]


class _Enough(Exception):
    """All was seen that a forward was run for."""


@contextmanager
def _hooks() -> Any:
    handles: list[Any] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()
