"""Least-squares refit after the cut: re-solves each branch's output projection toward the dense model's stream.

The units that stay can compensate in part for those that were cut, and the best linear way to do so is a least-squares
problem, which needs no gradients and a few calibration batches. Projections are solved in the order of the forward
pass, so that each also corrects what the branches before it could not.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.anatomy import Group
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.hookable import hookable
from trimbre.models.positions import valid_frames
from trimbre.models.regularisation import without_regularisation
from trimbre.plan import Plan
from trimbre.progress import progress
from trimbre.pruning.frozen import eval_mode
from trimbre.pruning.least_squares import RIDGE, Correction, frame_weights
from trimbre.pruning.numerics import near_float64
from trimbre.pruning.refit_channels import Stop, refit_channels

LEAST_FACTOR = 1e-3
"""Smallest factor on a branch: below it, what the branch adds to its stream is lost in rounding."""


@torch.no_grad()
def refit(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batches: Iterable[Batch],
    *,
    plan: Plan | None = None,
    scope: str = "model",
    ridge: float = RIDGE,
    loss: Callable[[Batch], Tensor] | None = None,
    reduce_sum: Callable[[Tensor], Tensor] = lambda own: own,
) -> None:
    """Re-solve the output projection of every branch of `student`, weight and bias, in place.

    With x the units' outputs (frames, units), s the residual stream before the branch, t the teacher's stream after it
    and f the factor on the branch (a half for a Conformer's feed-forwards), the new weights minimise
    |s + f (x W + b) - t|^2 over the valid frames of `batches`, plus the ridge on their change.

    Blocks are run one by one on the stream of every batch, so that time grows with their number and memory does not.

    Args:
        student: a cut model of the same family as `teacher`; both are run in eval mode and left in the mode they had.
        batches: calibration batches, on the device of both models.
        plan: the plan that `student` was cut by, which says how what is no residual branch (`refit_channels`), such as
            the channels of its front end, stands to the teacher's; None leaves these.
        scope: the part of the model whose branches are refitted, a name of `Anatomy.scopes`.
        ridge: weight of the pull toward the weights as they are, relative to the mean energy of the inputs.
        loss: of the teacher on a batch, not at its minimum; frames are weighted by its squared gradient, as
            `least_squares` says. None weighs all frames alike.
        reduce_sum: sums a tensor over the processes that bring batches of their own.

    A branch that adds nothing to the teacher's stream keeps its weights.

    Raises:
        UserError: a projection has no finite solution; it names it.
    """
    given, own = list(batches), anatomy_of(student).within(scope)
    groups: dict[str, list[Group]] = {}
    for group in filter(lambda one: one.residual, own):
        groups.setdefault(group.block, []).append(group)
    stacks = {
        stack: [f"{stack}.{name}" for name, _ in student.get_submodule(stack).named_children()]
        for stack in dict.fromkeys(path.rpartition(".")[0] for path in groups)
    }
    done = 0
    begin = next((place for place, group in enumerate(own) if group.residual), len(own))

    def refit_others(part: Sequence[Group]) -> None:
        if plan is not None:
            alone = [group for group in part if not group.residual]
            with eval_mode(student, teacher):
                refit_channels(student, teacher, plan, alone, given, ridge=ridge, loss=loss, reduce_sum=reduce_sum)

    refit_others(own[:begin])
    with (
        eval_mode(student, teacher),
        hookable(student, teacher),
        without_regularisation(student),
        without_regularisation(teacher),
        progress("refit", sum(map(len, stacks.values()))) as show,
    ):
        for blocks in stacks.values():
            students = [_Replay.of(student, batch, blocks) for batch in given]
            teachers = [_Replay.of(teacher, batch, blocks) for batch in given]
            if loss is not None:
                for replay in teachers:
                    replay.gradients = _gradients(teacher, replay.batch, blocks[-1], loss)
            for block in blocks:
                _refit_block(student, groups.get(block, []), block, students, teachers, ridge, reduce_sum)
                done += 1
                show(done)
    refit_others(own[begin:])


def _refit_block(
    student: PreTrainedModel,
    groups: Sequence[Group],
    block: str,
    students: Sequence["_Replay"],
    teachers: Sequence["_Replay"],
    ridge: float,
    reduce_sum: Callable[[Tensor], Tensor],
) -> None:
    """Refit the branches of one block, first to last, and advance the streams of student and teacher past it."""
    wanted, factors = _teacher_streams(groups, block, teachers, reduce_sum)
    for position, group in enumerate(groups):
        if (factor := factors[position]) is None:  # a branch that adds nothing keeps its weights
            continue
        correction = Correction(student.get_submodule(group.consumer), ridge, reduce_sum, name=group.consumer)
        for replay, teacher, afters in zip(students, teachers, wanted, strict=True):
            units, after = replay.branch(block, group)
            if group.kind.channel_axis == 1:
                units = units.transpose(1, 2)
            valid = valid_frames(student, replay.batch.inputs, units, positions=group.positions)
            weights = None if teacher.gradients is None else frame_weights(teacher.gradients[valid])
            correction.add(units[valid], (afters[position] - after)[valid] / factor, weights)
        correction.apply()
    for replay in students:
        replay.stream = replay.run(block)


def _teacher_streams(
    groups: Sequence[Group], block: str, teachers: Sequence["_Replay"], reduce_sum: Callable[[Tensor], Tensor]
) -> tuple[list[list[Tensor]], list[float | None]]:
    """The teacher's streams after the branches of a block, (batch, time, dim) per batch and branch; their factors.

    The factor of a branch that adds nothing to its stream is None.
    """
    sums = torch.zeros(2, len(groups), dtype=torch.float64, device=near_float64(teachers[0].stream).device)
    streams: list[list[Tensor]] = []
    within = [group.after for group in groups if group.after.startswith(f"{block}.")]
    for replay in teachers:
        entered, left = replay.through(block, [*map(_stream, groups), *within], [group.consumer for group in groups])
        replay.stream = replay.output
        streams.append([entered.get(group.after, replay.stream.float()) for group in groups])
        for position, (group, after) in enumerate(zip(groups, streams[-1], strict=True)):
            before, branch = entered[_stream(group)], left[group.consumer]
            if group.kind.channel_axis == 1:
                branch = branch.transpose(1, 2)
            valid = valid_frames(replay.model, replay.batch.inputs, after, positions=group.positions)
            sums[0, position] += near_float64((after - before)[valid] * branch[valid]).sum(dtype=torch.float64)
            sums[1, position] += near_float64(branch[valid].square()).sum(dtype=torch.float64)
    products, energies = reduce_sum(sums)
    factors = (products / energies).tolist()  # 0 / 0 where a branch puts out zeros
    return streams, [factor if factor > LEAST_FACTOR else None for factor in factors]


def _gradients(teacher: PreTrainedModel, batch: Batch, last: str, loss: Callable[[Batch], Tensor]) -> Tensor:
    """(batch, time, dim) gradients of the loss with respect to the output of the `last` block of a stack."""
    outputs: list[Tensor] = []

    def record(module: nn.Module, args: Any, output: Any) -> None:
        stream = output[0] if isinstance(output, tuple) else output
        outputs.append(stream if stream.requires_grad else stream.requires_grad_())

    with _hooks() as handles, torch.enable_grad():
        handles.append(teacher.get_submodule(last).register_forward_hook(record))
        return torch.autograd.grad(loss(batch), outputs[-1])[0].float()


def _stream(group: Group) -> str:
    """The module whose input is the residual stream before the branch."""
    return group.norm or group.path


class _Replay:
    """Runs a model's blocks one by one, with the arguments that its forward on a batch calls them with."""

    def __init__(self, model: PreTrainedModel, batch: Batch):
        self.model, self.batch = model, batch
        self.stream: Tensor
        """(batch, time, dim), input of the next block."""
        self.output: Tensor
        """Output of the block that was run last."""
        self.gradients: Tensor | None = None
        """(batch, time, dim) of the loss with respect to the last block's output; None where frames weigh the same."""
        self.rest: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        """The other arguments of every block in the stack, by place and by name: masks may differ between blocks."""

    @classmethod
    def of(cls, model: PreTrainedModel, batch: Batch, blocks: Sequence[str]) -> "_Replay":
        """Run the model up to the last block of a stack and record the arguments that each is called with."""
        replay = cls(model, batch)

        def record(path: str) -> Any:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
                if path == blocks[0]:
                    replay.stream = _first(args, kwargs)
                rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
                replay.rest[path] = args[1:], rest
                if path == blocks[-1]:
                    raise Stop

            return hook

        with _hooks() as handles, suppress(Stop):
            for path in blocks:
                handles.append(model.get_submodule(path).register_forward_pre_hook(record(path), with_kwargs=True))
            head_of(model).forward(model, batch.inputs)
        return replay

    def run(self, block: str) -> Tensor:
        """The output of a block on the stream."""
        args, kwargs = self.rest[block]
        output = self.model.get_submodule(block)(self.stream, *args, **kwargs)
        self.output = output[0] if isinstance(output, tuple) else output
        return self.output

    def branch(self, block: str, group: Group) -> tuple[Tensor, Tensor]:
        """The input of a branch's consumer and the stream after the branch; the block is run no further than that."""
        within = group.after.startswith(f"{block}.")
        entered: dict[str, Tensor] = {}
        with self._recording((group.consumer, *[group.after] * within), entered, stop=within), suppress(Stop):
            self.run(block)
        return entered[group.consumer], entered[group.after] if within else self.output.float()

    def through(
        self, block: str, inputs_of: Collection[str], outputs_of: Collection[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run a block; return the inputs of some modules and the outputs of others, (batch, time, dim) each."""
        entered: dict[str, Tensor] = {}
        left: dict[str, Tensor] = {}

        def keep(path: str) -> Any:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                left[path] = (output[0] if isinstance(output, tuple) else output).float()

            return hook

        with self._recording(inputs_of, entered, stop=False), _hooks() as handles:
            for path in outputs_of:
                handles.append(self.model.get_submodule(path).register_forward_hook(keep(path)))
            self.run(block)
        return entered, left

    @contextmanager
    def _recording(self, paths: Collection[str], entered: dict[str, Tensor], *, stop: bool) -> Iterator[None]:
        """Record the inputs of modules and, with `stop`, end the forward once all of them were called."""

        def keep(path: str) -> Any:
            def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Any]) -> None:
                entered[path] = _first(args, kwargs).float()
                if stop and len(entered) == len(set(paths)):
                    raise Stop

            return hook

        with _hooks() as handles:
            for path in set(paths):
                module = self.model.get_submodule(path)
                handles.append(module.register_forward_pre_hook(keep(path), with_kwargs=True))
            yield


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    stream: Tensor = args[0] if args else kwargs["hidden_states"]
    return stream


@contextmanager
def _hooks() -> Any:
    handles: list[Any] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()
