"""A corrective refit after the cut: each branch's last projection is solved anew so that its stream is the teacher's.

What a branch lost when units left, the units that stay can make up for in part, and the best linear way to do so is a
least-squares problem: no gradient, a few batches of audio, seconds. It's done in the order of the forward pass, so that
each projection also corrects what the branches before it could not.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.anatomy import Group
from trimbre.models.families.registry import anatomy_of
from trimbre.models.positions import valid_frames
from trimbre.models.regularisation import without_regularisation
from trimbre.pruning.least_squares import RIDGE, Correction, frame_weights


@torch.no_grad()
def refit(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batches: Iterable[Batch],
    *,
    scope: str = "model",
    ridge: float = RIDGE,
    loss: Callable[[Batch], Tensor] | None = None,
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
        loss: of the teacher, not at its minimum; a frame counts by how steep it is there, see `leastsquares`. None:
            all frames count the same.
        together: adds a tensor up over the processes that bring batches of their own.
    """
    heard = list(batches)
    training = student.training
    student.eval()
    groups: dict[str, list[Group]] = {}
    for group in filter(lambda one: one.residual, anatomy_of(student).within(scope)):
        groups.setdefault(group.block, []).append(group)
    with without_regularisation(student), without_regularisation(teacher):
        for stack in dict.fromkeys(path.rpartition(".")[0] for path in groups):
            blocks = [f"{stack}.{name}" for name, _ in student.get_submodule(stack).named_children()]
            mine = [_Replay.of(student, batch, blocks[0]) for batch in heard]
            theirs = [_Replay.of(teacher, batch, blocks[0]) for batch in heard]
            if loss is not None:
                for replay in theirs:
                    replay.slopes = _slopes(teacher, replay.batch, blocks[-1], loss)
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
        correction = Correction(student.get_submodule(group.consumer), ridge, together)
        for replay, other, afters in zip(mine, theirs, wanted, strict=True):
            units, after = replay.branch(block, group)
            if group.kind.channel_axis == 1:
                units = units.transpose(1, 2)
            valid = valid_frames(student, replay.batch.inputs, units, positions=group.positions)
            counts = None if other.slopes is None else frame_weights(other.slopes[valid])
            correction.add(units[valid], (afters[position] - after)[valid] / factors[position], counts)
        correction.apply()
    for replay in mine:
        replay.stream = replay.run(block)


def _teacher_streams(
    groups: Sequence[Group], block: str, theirs: Sequence["_Replay"], together: Callable[[Tensor], Tensor]
) -> tuple[list[list[Tensor]], list[float]]:
    """Of every batch the teacher's streams after the branches of a block, (batch, time, dim); the factors on these."""
    sums = torch.zeros(2, len(groups), dtype=torch.float64, device=theirs[0].stream.device)
    streams: list[list[Tensor]] = []
    within = [group.after for group in groups if group.after.startswith(f"{block}.")]
    for replay in theirs:
        entered, left = replay.through(block, [*map(_stream, groups), *within], [group.consumer for group in groups])
        replay.stream = replay.output
        streams.append([entered.get(group.after, replay.stream.float()) for group in groups])
        for position, (group, after) in enumerate(zip(groups, streams[-1], strict=True)):
            before, branch = entered[_stream(group)], left[group.consumer]
            if group.kind.channel_axis == 1:
                branch = branch.transpose(1, 2)
            valid = valid_frames(replay.model, replay.batch.inputs, after, positions=group.positions)
            sums[0, position] += ((after - before)[valid] * branch[valid]).sum(dtype=torch.float64)
            sums[1, position] += branch[valid].square().sum(dtype=torch.float64)
    products, energies = together(sums)
    return streams, (products / energies).tolist()


def _slopes(teacher: PreTrainedModel, batch: Batch, last: str, loss: Callable[[Batch], Tensor]) -> Tensor:
    """(batch, time, dim) the loss's slopes over what the `last` block of a stack makes of a batch."""
    made: list[Tensor] = []

    def note(module: nn.Module, args: Any, output: Any) -> None:
        stream = output[0] if isinstance(output, tuple) else output
        made.append(stream if stream.requires_grad else stream.requires_grad_())

    with _hooks() as handles, torch.enable_grad():
        handles.append(teacher.get_submodule(last).register_forward_hook(note))
        return torch.autograd.grad(loss(batch), made[-1])[0].float()


def _stream(group: Group) -> str:
    """The module whose input is the residual stream before the branch."""
    return group.norm or group.path


class _Replay:
    """Runs a model's blocks one by one, as its forward on a batch called them."""

    def __init__(self, model: PreTrainedModel, batch: Batch):
        self.model, self.batch = model, batch
        self.stream: Tensor
        """(batch, time, dim), what the next block is given."""
        self.output: Tensor
        """What the block made of it that was run last."""
        self.slopes: Tensor | None = None
        """(batch, time, dim) of the loss over what the last block makes; None where frames count the same."""
        self.rest: tuple[tuple[Any, ...], dict[str, Any]]
        """What every block of a stack is given beside the stream: the other arguments, by place and by name."""

    @classmethod
    def of(cls, model: PreTrainedModel, batch: Batch, first: str) -> "_Replay":
        """Run the model as far as the first block of a stack and note what that is called with."""
        replay = cls(model, batch)

        def note(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            replay.stream = _given(args, kwargs)
            replay.rest = args[1:], {name: value for name, value in kwargs.items() if name != "hidden_states"}
            raise _Enough

        with _hooks() as handles, suppress(_Enough):
            handles.append(model.get_submodule(first).register_forward_pre_hook(note, with_kwargs=True))
            model(**batch.inputs)
        return replay

    def run(self, block: str) -> Tensor:
        """What a block makes of the stream."""
        args, kwargs = self.rest
        output = self.model.get_submodule(block)(self.stream, *args, **kwargs)
        self.output = output[0] if isinstance(output, tuple) else output
        return self.output

    def branch(self, block: str, group: Group) -> tuple[Tensor, Tensor]:
        """What a branch's consumer reads, and the stream after the branch; the block is run no further than that."""
        within = group.after.startswith(f"{block}.")
        entered: dict[str, Tensor] = {}
        with self._noting((group.consumer, *[group.after] * within), entered, stop=within), suppress(_Enough):
            self.run(block)
        return entered[group.consumer], entered[group.after] if within else self.output.float()

    def through(
        self, block: str, inputs_of: Collection[str], outputs_of: Collection[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run a block; the inputs of some modules and the outputs of others, (batch, time, dim) each."""
        entered: dict[str, Tensor] = {}
        left: dict[str, Tensor] = {}

        def keep(path: str) -> Any:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                left[path] = (output[0] if isinstance(output, tuple) else output).float()

            return hook

        with self._noting(inputs_of, entered, stop=False), _hooks() as handles:
            for path in outputs_of:
                handles.append(self.model.get_submodule(path).register_forward_hook(keep(path)))
            self.run(block)
        return entered, left

    @contextmanager
    def _noting(self, paths: Collection[str], entered: dict[str, Tensor], *, stop: bool) -> Iterator[None]:
        """Note what modules are called with and, with `stop`, end the forward once all of them were called."""

        def keep(path: str) -> Any:
            def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Any]) -> None:
                entered[path] = _given(args, kwargs).float()
                if stop and len(entered) == len(set(paths)):
                    raise _Enough

            return hook

        with _hooks() as handles:
            for path in set(paths):
                module = self.model.get_submodule(path)
                handles.append(module.register_forward_pre_hook(keep(path), with_kwargs=True))
            yield


def _given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    stream: Tensor = args[0] if args else kwargs["hidden_states"]
    return stream


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
