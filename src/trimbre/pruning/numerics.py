"""float64 arithmetic on the device where it has it, on the CPU where it has not (Apple's MPS, some Intel GPUs)."""

from functools import cache

import torch
from torch import Tensor


@cache
def has_float64(device_type: str) -> bool:
    """Whether devices of a type such as `cuda` or `mps` compute in float64; tried out once."""
    try:
        torch.ones(1, dtype=torch.float64, device=device_type).add_(1)
    except (TypeError, RuntimeError):  # as MPS and Intel's driver say so
        return False
    return True


def near_float64(tensor: Tensor) -> Tensor:
    """`tensor` in its own precision, on the CPU if its device has no float64."""
    return tensor if has_float64(tensor.device.type) else tensor.cpu()


def float64(tensor: Tensor) -> Tensor:
    """`tensor` in float64, on the CPU if its device has none."""
    return near_float64(tensor).double()


@torch.no_grad()
def assign(parameter: Tensor, value: Tensor) -> None:
    """Copy `value`, of any precision and on any device, into `parameter`."""
    parameter.copy_(value.to(parameter.dtype))
