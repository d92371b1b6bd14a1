"""Running a model without changing it: frozen copies, and contexts that restore what they set."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel


def frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of `model` in eval mode that computes no gradients of its weights, such as a teacher.

    It shares the memory of the weights until it is moved to another device or precision; neither that nor anything
    else that is set on it shows in `model`.
    """
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    shared |= {id(buffer): buffer.detach() for buffer in model.buffers()}
    return copy.deepcopy(model, shared).eval()


@contextmanager
def eval_mode(*models: nn.Module) -> Iterator[None]:
    """Models in eval mode; on leaving, every module is in the mode that it was in."""
    before = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def frozen_eval(model: nn.Module) -> Iterator[None]:
    """A model in eval mode that computes no gradients of its weights; on leaving, it is as it was before."""
    learnable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with eval_mode(model):
        model.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in learnable:
                parameter.requires_grad_(True)
