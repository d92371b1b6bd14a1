"""Several processes that share one run: what keeps them alike, and what one does while the others wait."""

import atexit
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from trimbre.data.check import UnreadableClips


class GradientSync:
    """Keeps the processes of a run alike; with one process it does nothing.

    Not DistributedDataParallel, which wraps one module's forward: here several modules are trained at once, behind
    gates that hook into them.
    """

    def __init__(self, accelerator: Accelerator, learned: Sequence[Tensor], modules: Iterable[nn.Module]):
        self.accelerator = accelerator
        self.learned = learned
        self.statistics = [b for module in modules for b in module.buffers() if b.is_floating_point()]

    @torch.no_grad()
    def settle(self, loss: float, seconds: float) -> tuple[float, float]:
        """Average gradients, statistics and `loss` over the processes; return this and the sum of `seconds`."""
        if self.accelerator.num_processes == 1:
            return loss, seconds
        shared = [*self.statistics, torch.tensor([loss, seconds], device=self.accelerator.device)]
        for parameter in self.learned:
            if parameter.grad is None:  # as on a process whose batches did not come by it
                parameter.grad = torch.zeros_like(parameter)
            shared.append(parameter.grad)
        flat = torch.cat([one.reshape(-1).float() for one in shared])
        flat = self.accelerator.reduce(flat, reduction="mean")
        for one, mean in zip(shared, flat.split([one.numel() for one in shared]), strict=True):
            one.copy_(mean.reshape(one.shape))
        loss, seconds = shared[len(self.statistics)].tolist()
        return loss, seconds * self.accelerator.num_processes


@contextmanager
def main_process_threads(accelerator: Accelerator) -> Iterator[None]:
    """While the other processes of this machine wait for the first, it works with their threads too."""
    own = torch.get_num_threads()
    if accelerator.is_main_process:
        torch.set_num_threads(own * int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    try:
        yield
    finally:
        torch.set_num_threads(own)


@atexit.register
def part() -> None:
    """Leave the group of processes, if there is one, while Python still stands.

    Gloo's threads may still hold the tensors of the last exchange; one that lets go of them while the interpreter is
    being taken down ends the process with "terminate called without an active exception".
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def gather_unreadable(tolerance: UnreadableClips) -> dict[str, str]:
    """What every process had to leave out, known to all of them."""
    return {id: reason for one in gather_object([tolerance.unreadable]) for id, reason in one.items()}
