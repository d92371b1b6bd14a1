"""Size of a model: parameters, and multiply-accumulates as torch's FlopCounterMode counts them."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trimbre.costs.macs import on_meta, reference_of
from trimbre.models.families.registry import head_of


@dataclass(frozen=True)
class Size:
    """Parameters and arithmetic of a model."""

    parameters: int
    macs_per_second: float
    """Multiply-accumulates per second of audio, in a clip of `reference_seconds`."""
    reference_seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def size(model: nn.Module, processor: Any) -> Size:
    """Count parameters, and MACs with torch's FlopCounterMode on the meta device; `model` stays as it was.

    Attention is counted in its eager form: under SDPA on a CPU the counter misses both of its products.
    """
    ghost: Any = on_meta(model).eval()
    ghost.set_attn_implementation("eager")
    reference = reference_of(model, processor)
    inputs = {name: value.to("meta") for name, value in reference.inputs.items()}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        head_of(ghost).decoding_forward(ghost, inputs)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Size(parameters, counter.get_total_flops() / 2 / reference.seconds, reference.seconds)
