"""Copies of models that can be traced for export and quantised, with the same outputs on valid frames."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimbre.exporting.rewrites import rewrite_operators
from trimbre.models.families.registry import family_of
from trimbre.models.modeling_trimbre import BiasOnly, Skipped


def exportable(model: PreTrainedModel) -> PreTrainedModel:
    """Copy a model into a traceable form: no caches of positions, no skipped branches; equal on valid frames.

    Attention is eager, since the exporter cannot trace SDPA's views. 1x1 convolutions become matrix products, which
    ONNX Runtime can quantise; it has no fast int8 kernel for a convolution of kernel 1.
    """
    copied: Any = copy.deepcopy(model).float().eval()
    copied.set_attn_implementation("eager")
    forms = family_of(model).forms
    for path, module in list(copied.named_modules()):
        replacement = _replacement(module, form=forms.get(type(module).__name__))
        if replacement is not None:
            copied.set_submodule(path, replacement)
    rewrite_operators(copied)
    return copied


def _replacement(module: nn.Module, *, form: str | None) -> nn.Module | None:
    if form == "relative positions":
        return RelativePositions(module.d_model)  # type: ignore[arg-type]
    if form == "rotary positions":
        return RotaryPositions(module.inv_freq)  # type: ignore[arg-type]
    if isinstance(module, Skipped) and not isinstance(module, BiasOnly):
        return Nothing(module.outputs)
    if isinstance(module, nn.Conv1d) and module.kernel_size == (1,) and module.groups == 1 and module.stride == (1,):
        return Pointwise(module, channels_last=form == "channels last")
    return None


class Pointwise(nn.Module):
    """A 1x1 convolution over (batch, channels, time) as a matrix product."""

    def __init__(self, convolution: nn.Conv1d, *, channels_last: bool = False):
        super().__init__()
        self.weight = nn.Parameter(convolution.weight.detach()[:, :, 0].clone())
        self.bias = convolution.bias
        self.channels_last = channels_last

    def forward(self, hidden: Tensor) -> Tensor:
        if self.channels_last:
            return nn.functional.linear(hidden, self.weight, self.bias)
        return nn.functional.linear(hidden.transpose(1, 2), self.weight, self.bias).transpose(1, 2)


class Nothing(nn.Module):
    """A skipped branch whose output is a constant zero, which the exporter folds away."""

    zero: Tensor

    def __init__(self, outputs: int):
        super().__init__()
        self.outputs = outputs
        self.register_buffer("zero", torch.zeros(()))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        handed_on = (None, kwargs.get("position_bias"))[: self.outputs - 1]
        return self.zero if self.outputs == 1 else (self.zero, *handed_on)


class RelativePositions(nn.Module):
    """Sinusoids of the relative positions time-1 .. -(time-1), (1, 2 time - 1, dim), computed for each input.

    transformers caches them in a table that grows with the longest input, which cannot be traced.
    """

    rates: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("rates", torch.exp(torch.arange(0, dim, 2).float() * -(math.log(10000.0) / dim)))

    def forward(self, hidden: Tensor) -> Tensor:
        frames = hidden.shape[1]
        angles = torch.arange(frames - 1, -frames, -1).float()[:, None] * self.rates
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[None]


class RotaryPositions(nn.Module):
    """Cosines and sines of the positions 0 .. time-1, (2, time, 1, 1, head size), without transformers' cache."""

    rates: Tensor

    def __init__(self, rates: Tensor):
        super().__init__()
        self.register_buffer("rates", rates.detach().clone())

    def forward(self, hidden: Tensor) -> Tensor:
        angles = torch.arange(hidden.shape[1]).float()[:, None] * self.rates
        angles = torch.cat((angles, angles), dim=-1)
        return torch.stack([angles.cos()[:, None, None, :], angles.sin()[:, None, None, :]])
