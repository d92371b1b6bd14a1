"""Training large models in less memory: bfloat16 weights of the teacher, and activation checkpointing."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trimbre.models.recomputing import as_before

MULTIPLY = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers whose weight is a matrix in a product, which autocast rounds to bfloat16."""


def cast_matrices_to_bfloat16(model: nn.Module) -> None:
    """Store in bfloat16, in place, the weights that autocast rounds to bfloat16 at every product.

    These are the weights of linear layers and convolutions, and a token embedding that is tied to an output projection.
    All else stays float32: it is small, and norms, positions and biases need their precision. So a forward under
    autocast computes what it computed before, but for a tied token embedding, whose lookups are rounded, too.
    """
    for module in model.modules():
        if isinstance(module, MULTIPLY) and isinstance(weight := module._parameters.get("weight"), nn.Parameter):
            weight.data = weight.data.to(torch.bfloat16)  # a weight that is computed from others has no parameter


@contextmanager
def recomputed(model: PreTrainedModel) -> Iterator[None]:
    """Activation checkpointing: keep the inputs of layers and recompute the rest in the backward (Chen et al. 2016).

    Gradients are bitwise the same, and so are the statistics of batch norms, which skip the second forward.
    """

    def contexts() -> tuple[Any, Any]:
        first, second = as_before()
        return first, _second_forward(model, second)

    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})
    try:
        yield
    finally:
        model.activation_checkpointing_disable()


@contextmanager
def _second_forward(model: nn.Module, modes: AbstractContextManager[Any]) -> Iterator[None]:
    """The context of the first forward with running statistics held."""
    with modes, _statistics_held(model):
        yield


@contextmanager
def _statistics_held(model: nn.Module) -> Iterator[None]:
    """Batch norms use the statistics of their batch without adding them to the running ones."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
