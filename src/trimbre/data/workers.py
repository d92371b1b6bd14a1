"""Batches made by worker processes, which pass them on by pipes and not in shared memory.

PyTorch puts tensors there, which saves a copy, but a container has 64 MB of shared memory, and a process that writes
past its end is killed by a bus error. Arrays go by pipes.
"""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from trimbre.errors import OptionError

LOCKS, LOCKS_EACH = 8, 3
"""Locks of a loader, and further ones of each of its workers: a queue has three and an event five."""


def from_workers(
    dataset: Dataset, items: Iterable[Any], *, arrays_of: Callable[[Any], Any], workers: int, seed: int
) -> Iterator[Any]:
    """`arrays_of(dataset[item])` of every item, in their order, made by so many `workers` ahead of time.

    Args:
        arrays_of: the same without tensors; runs in the workers.

    Raises:
        OptionError: the processes cannot be started, or one of them was killed; raised while iterating.
    """
    batches = DataLoader(
        dataset,
        sampler=items,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4,
        collate_fn=arrays_of,
        # Its own generator: the global one belongs to the training step.
        generator=torch.Generator().manual_seed(seed),
    )
    try:
        # The locks between processes need a page of shared memory each; a loader that lacks them prints a traceback.
        locks = [multiprocessing.Lock() for _ in range(LOCKS + LOCKS_EACH * workers)]
        del locks
        stream = _started(batches)
    except OSError as error:
        raise _refused(workers, f"processes cannot be started ({error.strerror or error})") from error
    try:
        yield from stream
    except RuntimeError as error:
        if not str(error).startswith("DataLoader"):
            raise
        raise _refused(workers, f"one of the processes was killed ({error})") from error


def _started(batches: DataLoader) -> Iterator[Any]:
    """The iterator of a loader, which says itself that a worker has died.

    PyTorch's handler of the signal would raise in the midst of a training step.
    """
    if threading.current_thread() is not threading.main_thread():
        return iter(batches)
    before = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(batches)
    finally:
        signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)


def _refused(workers: int, reason: str) -> OptionError:
    advice = f"{reason}: give fewer, or 0 to load audio in the process itself, or more memory"
    return OptionError("workers", workers, advice, owner="BatchConfig")
