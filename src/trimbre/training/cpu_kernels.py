"""Training on a CPU by the kernels that it has fast ones of.

oneDNN compiles a kernel for every size of a product or convolution that it meets. A batch of speech is as long as its
utterances, so that nearly every batch has sizes of its own, and a pruned model has as many kinds of product as it has
layers. With a small model on short batches a third of a training step goes into compiling what is used once.

Convolutions with strides, each channel by itself, have no fast backward in bfloat16: in float32 it takes a fifth of the
time (on a Xeon with AMX). A FastConformer's front end has them.
"""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

ROWS = 128
"""Rows come in multiples of it: with fewer, sizes are many; with more, products are of nothing but padding."""

# oneDNN keeps 1,024 kernels and forgets the oldest. It reads this once, when it first computes.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")


class CpuKernels(TorchFunctionMode):
    """Within it, a CPU computes some layers otherwise than they are written, with the same results but for rounding.

    Linear layers, and convolutions over single frames, fill the rows that they multiply up to a multiple of `ROWS` with
    zeros, cut off again; rows of zeros add nothing to a weight's gradient. Autocast leaves convolutions in float32 that
    have strides and groups. A backward that computes activations again has to enter it again
    (`trimbre.training.low_memory.recomputed`).
    """

    holds = 0
    """How many are entered: more than none within one."""

    def __enter__(self) -> "CpuKernels":
        CpuKernels.holds += 1
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        CpuKernels.holds -= 1

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, by another kernel where that is quicker."""
        quicker = {functional.linear: _filled, torch.conv1d: _convolved, torch.conv2d: _convolved}.get(func, func)
        return quicker(*args, **(kwargs or {}))


def _filled(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer on filled rows."""
    *shape, width = input.shape
    count = math.prod(shape)
    flat = functional.pad(input.reshape(count, width), (0, 0, 0, -count % ROWS))
    product = functional.linear(flat, weight, bias)
    return product[:count].reshape(*shape, product.shape[-1])


def _convolved(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """A convolution in one or two dimensions: linear if of single frames, in float32 with strides and groups."""
    strided, padded = ({*given} if isinstance(given, Sequence) else {given} for given in (stride, padding))
    channels = 1 - weight.dim()
    if groups == 1 and math.prod(weight.shape[2:]) == 1 and strided == {1} and padded == {0}:
        return _filled(input.movedim(channels, -1), weight.flatten(1), bias).movedim(-1, channels)
    convolve: Callable[..., Tensor] = functional.conv1d if weight.dim() == 3 else functional.conv2d
    if groups > 1 and strided != {1} and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            alike = [None if one is None else one.float() for one in (input, weight, bias)]
            return convolve(*alike, stride, padding, dilation, groups)
    return convolve(input, weight, bias, stride, padding, dilation, groups)
