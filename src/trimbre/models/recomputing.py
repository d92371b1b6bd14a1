"""Forwards that are run again for the backward, to save the memory of what they compute (Chen et al. 2016)."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack


def as_before() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The `context_fn` of a checkpoint: the contexts of a forward and of its repetition.

    torch runs a backward outside the modes that the forward was in, such as kernels for a CPU (`CpuKernels`): what is
    repeated without them may differ in shape.
    """
    return nullcontext(), _entered(_get_current_function_mode_stack())


@contextmanager
def _entered(modes: Sequence[TorchFunctionMode]) -> Iterator[None]:
    with ExitStack() as stack:
        for mode in modes:
            stack.enter_context(mode)
        yield
