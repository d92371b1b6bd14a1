"""Faster training on a CPU: products of few sizes, and convolutions in the precision that has a fast backward.

oneDNN compiles a kernel for every size of a product or convolution. A batch of speech is as long as its utterances, so
that nearly every batch has sizes of its own, and a pruned model has as many sizes of products as it has layers. With a
small model on short batches, a third of a training step goes into compiling kernels that are used once.

Strided depthwise convolutions have no fast backward in bfloat16: in float32 it takes a fifth of the time (on a Xeon
with AMX). The front end of a FastConformer has them.
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
"""Rows of a product are padded to a multiple of it: lower, there are many sizes; higher, much is padding."""
KERNELS = 8192
"""Compiled kernels that oneDNN keeps; by itself, 1,024."""


def keep_more_kernels() -> None:
    """Have oneDNN keep `KERNELS` compiled kernels; it reads this once, at the first product of the process."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))


class CpuKernels(TorchFunctionMode):
    """Context in which a CPU computes some layers by faster kernels, with the same results but for rounding.

    Linear layers and pointwise convolutions pad the rows that they multiply with zeros to a multiple of `ROWS`, which
    adds nothing to a weight's gradient, and cut the output. Autocast leaves strided grouped convolutions in float32.
    A backward that recomputes activations has to enter it again (`trimbre.models.recomputing.as_before`).
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, or what is faster in its place."""
        faster = {functional.linear: _padded_linear, torch.conv1d: _convolution, torch.conv2d: _convolution}
        return faster.get(func, func)(*args, **(kwargs or {}))


def _padded_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer on rows that are padded to a multiple of `ROWS`; `input` is (..., in features)."""
    *shape, width = input.shape
    count = math.prod(shape)
    flat = functional.pad(input.reshape(count, width), (0, 0, 0, -count % ROWS))
    product = functional.linear(flat, weight, bias)
    return product[:count].reshape(*shape, product.shape[-1])


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """A convolution in one or two dimensions: as a linear layer if pointwise, in float32 if strided and grouped."""
    strided, padded = ({*given} if isinstance(given, Sequence) else {given} for given in (stride, padding))
    channels = 1 - weight.dim()
    if groups == 1 and math.prod(weight.shape[2:]) == 1 and strided == {1} and padded == {0}:
        return _padded_linear(input.movedim(channels, -1), weight.flatten(1), bias).movedim(-1, channels)
    convolve: Callable[..., Tensor] = functional.conv1d if weight.dim() == 3 else functional.conv2d
    if groups > 1 and strided != {1} and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            full = [None if one is None else one.float() for one in (input, weight, bias)]
            return convolve(*full, stride, padding, dilation, groups)
    return convolve(input, weight, bias, stride, padding, dilation, groups)
