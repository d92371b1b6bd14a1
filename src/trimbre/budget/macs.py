"""Multiply-accumulates: what one second of audio costs in arithmetic."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from trimbre.anatomy import Anatomy
from trimbre.budget import Budget, accumulate, owner_of, owners

REFERENCE_SECONDS = 10.0
"""Length of the clip that MACs are counted for; attention's share grows with length."""


def macs_budget(model: nn.Module, anatomy: Anatomy, inputs: dict[str, Tensor], *, scope: str = "blocks") -> Budget:
    """Count the multiply-accumulates of one second of audio, to the group that they leave with.

    Every weight counts once for each position that it is applied at; attention's products between activations come
    from the anatomy. Positions are measured on a meta-device copy, so that no arithmetic is done.

    Args:
        inputs: the model's inputs for one clip of `REFERENCE_SECONDS`, batch 1 (`reference_inputs`).
    """
    positions = positions_of(model, inputs)
    prefixes = owners(anatomy)
    tensors: dict[str, tuple[float, str | None, float]] = {}
    for path, count in positions.items():
        name = f"{path}.weight"
        layer: Any = model.get_submodule(path)
        macs = layer.weight.numel() * count / REFERENCE_SECONDS
        tensors[name] = (macs, *owner_of(name, prefixes))
    for group in anatomy.groups:
        frames = positions[f"{group.path}.{group.kind.consumer}"]
        macs = group.size * group.kind.products(frames) / REFERENCE_SECONDS
        tensors[f"{group.path}.products"] = (macs, group.path, group.size)
    dense = sum(cost for name, (cost, *_) in tensors.items() if name.startswith(anatomy.scopes[scope]))
    return Budget("macs", scope, accumulate(anatomy, tensors, scope), dense)


def reference_inputs(processor: Any) -> dict[str, Tensor]:
    """Model inputs for `REFERENCE_SECONDS` of silence, batch 1, without a padding mask."""
    silence = torch.zeros(int(REFERENCE_SECONDS * 16_000)).numpy()
    features = processor.feature_extractor(silence, sampling_rate=16_000, return_tensors="pt")
    name = processor.feature_extractor.model_input_names[0]
    return {name: features[name]}


def on_meta(model: nn.Module) -> nn.Module:
    """A copy of `model` whose tensors have shapes but no storage."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), False) for p in model.parameters()}
    memo |= {id(b): b.to("meta") for b in model.buffers()}
    return copy.deepcopy(model, memo)


def positions_of(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, int]:
    """How many positions every linear and convolution is applied at for `inputs`, by path."""
    ghost = on_meta(model).eval()
    found: dict[str, int] = {}

    def watch(path: str, module: nn.Module) -> None:
        def note(module: Any, args: Any, output: Tensor) -> None:
            found[path] = found.get(path, 0) + output.numel() // max(module.weight.shape[0], 1)

        module.register_forward_hook(note)

    for path, module in ghost.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            watch(path, module)
    with torch.no_grad():
        ghost(**{name: value.to("meta") for name, value in inputs.items()})
    return found
