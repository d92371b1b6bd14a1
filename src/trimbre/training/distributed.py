"""Runs of several processes: gradient averaging, and work that the main process does while the others wait."""

import atexit
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, distributed, nn

from trimbre.data.unreadable import UnreadableClips
from trimbre.errors import UserError

Result = TypeVar("Result")

PATIENCE = timedelta(days=30)
"""How long the other processes wait for the main one; if it dies, they notice at once."""


class GradientSync:
    """Averages gradients and norm statistics over the processes of a run; with one process it does nothing.

    Not DistributedDataParallel, which wraps one module's forward: here several modules are trained at once, behind
    gates that hook into them.

    Args:
        parameters: those that are trained.
        modules: whose floating-point buffers, such as the running statistics of batch norms, are averaged.
    """

    def __init__(self, accelerator: Accelerator, parameters: Sequence[Tensor], modules: Iterable[nn.Module]):
        self.accelerator = accelerator
        self.parameters = parameters
        self.statistics = [b for module in modules for b in module.buffers() if b.is_floating_point()]

    @torch.no_grad()
    def average(self, loss: float, seconds: float) -> tuple[float, float]:
        """Average gradients, statistics and `loss` in place; return the mean loss and the sum of `seconds`."""
        if self.accelerator.num_processes == 1:
            return loss, seconds
        shared = [*self.statistics, torch.tensor([loss, seconds], device=self.accelerator.device)]
        for parameter in self.parameters:
            if parameter.grad is None:  # the batches of this process may not use it
                parameter.grad = torch.zeros_like(parameter)
            shared.append(parameter.grad)
        flat = torch.cat([one.reshape(-1).float() for one in shared])
        flat = self.accelerator.reduce(flat, reduction="mean")
        for one, mean in zip(shared, flat.split([one.numel() for one in shared]), strict=True):
            one.copy_(mean.reshape(one.shape))
        loss, seconds = shared[len(self.statistics)].tolist()
        return loss, seconds * self.accelerator.num_processes


def on_main_process(accelerator: Accelerator, function: Callable[[], Result]) -> Result:
    """Run `function` on the main process alone and return its result on all of them.

    The others wait for as long as it takes, which a collective of the run's own group would not let them do: gloo gives
    up after 30 minutes, NCCL after 10. For evaluation, measuring and writing.

    Args:
        function: takes nothing and returns what can be pickled, to be sent.

    Raises:
        Exception: what `function` raised, on every process. All but the main one raise it as a UserError or a
            KeyboardInterrupt, if it is one, and else as a RuntimeError that names it.
    """
    if accelerator.num_processes == 1:
        return function()
    group = distributed.new_group(backend="gloo", timeout=PATIENCE)
    sent: list[Any] = [None, None]
    raised: BaseException | None = None
    try:
        if accelerator.is_main_process:
            try:
                sent = [function(), None]
            except BaseException as error:  # the others are waiting: they have to fail too
                raised = error
                sent = [None, _described(error)]
        distributed.broadcast_object_list(sent, src=0, group=group, device=torch.device("cpu"))
    finally:
        distributed.destroy_process_group(group)
    result, failure = sent
    if raised is not None:
        raise raised
    if failure is not None:
        kind, sentence = failure
        raise kind(sentence)
    return result


def _described(error: BaseException) -> tuple[type[BaseException], str]:
    """An error as other processes raise it: its own class may not survive pickling."""
    if isinstance(error, UserError):
        return UserError, str(error)
    if isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt, ""
    return RuntimeError, f"the main process failed with {type(error).__name__}: {error}"


@contextmanager
def main_process_threads(accelerator: Accelerator) -> Iterator[None]:
    """Give the main process the threads of all processes of its machine, while these wait for it."""
    own = torch.get_num_threads()
    if accelerator.is_main_process:
        torch.set_num_threads(own * int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    try:
        yield
    finally:
        torch.set_num_threads(own)


@atexit.register
def leave_group() -> None:
    """Destroy the process group, if there is one, before the interpreter shuts down.

    Gloo's threads may still hold the tensors of the last collective. One that releases them during the shutdown ends
    the process with "terminate called without an active exception".
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def gather_unreadable(tolerance: UnreadableClips) -> dict[str, str]:
    """The clips that any process could not read, by id, with the reason; the same on every process."""
    return {id: reason for one in gather_object([tolerance.unreadable]) for id, reason in one.items()}
