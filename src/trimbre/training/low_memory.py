"""Memory: what a process holds, and how a large model and its teacher fit in: fewer bits, and computing twice."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trimbre.training.cpu_kernels import CpuKernels


def cast_matrices_to_bfloat16(model: nn.Module) -> None:
    """Hold the matrices of a model that is only listened to in bfloat16, in place.

    That's what autocast makes of them at every product. Vectors, statistics and tables of positions stay as they are:
    they are small, and norms and positions need their precision.
    """
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.to(torch.bfloat16)


@contextmanager
def recomputed(model: PreTrainedModel) -> Iterator[None]:
    """Keep only layers' inputs in a training forward and compute the rest again in the backward (Chen et al. 2016).

    Gradients are the same to the bit, and so are the statistics of batch norms, which don't count the second pass.
    """

    def contexts() -> tuple[Any, Any]:
        return nullcontext(), _again(model, CpuKernels() if CpuKernels.holds else nullcontext())

    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})
    try:
        yield
    finally:
        model.activation_checkpointing_disable()


@contextmanager
def _again(model: nn.Module, kernels: AbstractContextManager[Any]) -> Iterator[None]:
    """What the first pass was computed in, which the backward doesn't know, with norms that don't count this one."""
    with kernels, _still(model):
        yield


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """Batch norms use the statistics of their batch without taking note of them."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
