"""MAC budgets: multiply-accumulates per second of audio, counted operator by operator."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from trimbre.costs.cost import Budget, accumulate, owner_of, owners
from trimbre.models.anatomy import Anatomy
from trimbre.models.families.registry import head_of
from trimbre.models.hookable import hookable
from trimbre.models.inputs import rate_of, window_of

REFERENCE_SECONDS = 10.0
"""Seconds of audio that MACs are counted on; the share of attention grows with it. A Whisper's is its window, 30 s."""
TOKENS_PER_SECOND = 3.0
"""Tokens per second of audio that a decoder is counted to write: about those of ordinary English speech."""


@dataclass(frozen=True)
class Reference:
    """The clip that a model's MACs are counted on."""

    model: nn.Module
    inputs: dict[str, Tensor]
    """Inputs of the forward, batch 1, without a padding mask."""
    seconds: float

    @cached_property
    def positions(self) -> dict[str, int]:
        """Positions that each linear, convolution and LSTM is applied at, by path (`positions_of`)."""
        return positions_of(self.model, self.inputs)


def macs_budget(model: nn.Module, anatomy: Anatomy, reference: Reference, *, scope: str = "blocks") -> Budget:
    """Count the multiply-accumulates of one second of audio, attributed to the groups that they leave with.

    Every weight counts once for each position that it is applied at; the products between activations of attention
    come from the anatomy.

    Args:
        reference: the clip that they are counted on, for this model (`reference_of`).
    """
    positions = reference.positions
    prefixes = owners(anatomy)
    applied = {f"{g.home}.{path}": (g.path, g.size) for g in anatomy.groups for path in g.kind.per_unit}
    tensors: dict[str, tuple[float, str | None, float]] = {}
    for path, count in positions.items():
        layer: Any = model.get_submodule(path)
        names = [name for name, _ in layer.named_parameters() if "bias" not in name]
        for name in names if isinstance(layer, nn.LSTM) else ["weight"]:  # a convolution's may be made of others
            macs = getattr(layer, name).numel() * count / reference.seconds
            tensors[f"{path}.{name}"] = (macs, *(applied.get(path) or owner_of(f"{path}.{name}", prefixes)))
    for group in anatomy.groups:
        source = f"{group.home}.{group.kind.source}" if group.kind.source else group.consumer
        products = group.kind.products(positions[group.consumer], positions[source])
        macs = group.size * products / reference.seconds
        tensors[f"{group.path}.products"] = (macs, group.path, group.size)
    dense = sum(cost for name, (cost, *_) in tensors.items() if name.startswith(anatomy.scopes[scope]))
    return Budget("macs", scope, accumulate(anatomy, tensors, scope), dense)


def reference_of(model: Any, processor: Any) -> Reference:
    """Silence of `REFERENCE_SECONDS`, or of the window that the extractor pads every input to (Whisper).

    A decoder is run on `TOKENS_PER_SECOND` in one forward: each of its weights counts once for every token, keys and
    values of the encoder output once, self-attention over all tokens.
    """
    extractor = processor.feature_extractor
    seconds, rate = float(window_of(processor) or REFERENCE_SECONDS), rate_of(processor)
    features = extractor(torch.zeros(int(seconds * rate)).numpy(), sampling_rate=rate, return_tensors="pt")
    name = extractor.model_input_names[0]
    inputs = head_of(model).example_inputs(model, {name: features[name]}, round(TOKENS_PER_SECOND * seconds))
    return Reference(model, inputs, seconds)


def on_meta(model: nn.Module) -> nn.Module:
    """A copy of `model` whose tensors have shapes but no storage."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), False) for p in model.parameters()}
    memo |= {id(b): b.to("meta") for b in model.buffers()}
    return copy.deepcopy(model, memo)


def positions_of(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, int]:
    """Positions that every linear, convolution and LSTM is applied at for `inputs`, by path.

    They are recorded in a forward of a copy on the meta device, which computes nothing.
    """
    ghost = on_meta(model).eval()
    found: dict[str, int] = {}

    def record(path: str, module: nn.Module) -> None:
        def hook(module: Any, args: Any, output: Any) -> None:
            made = output[0] if isinstance(output, tuple) else output  # a recurrent layer's states follow
            width = module.hidden_size if isinstance(module, nn.LSTM) else module.weight.shape[0]
            found[path] = found.get(path, 0) + made.numel() // max(width, 1)

        module.register_forward_hook(hook)

    for path, module in ghost.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.LSTM):
            record(path, module)
    with torch.no_grad(), hookable(ghost):
        head_of(ghost).decoding_forward(ghost, {name: value.to("meta") for name, value in inputs.items()})
    return found
