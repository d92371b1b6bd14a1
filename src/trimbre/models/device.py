"""The device that a model runs on: from a name such as `auto`, from a model, and waiting for what it still computes."""

import torch
from torch import nn

from trimbre.errors import OptionError

DEVICES = ("auto", "cpu", "cuda", "mps")
"""Names that users give; an index may follow, as in `cuda:1`."""


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """Turn the name of a device into a device; `auto` is the accelerator where there is one, or else the CPU.

    Raises:
        OptionError: there is no such device on this machine.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError("device", str(name), f"choose one of {', '.join(DEVICES)}") from error
    if device.type == "cpu":
        return device
    if accelerator is None or accelerator.type != device.type:
        known = "cpu" if accelerator is None else f"cpu and {accelerator.type}"
        raise OptionError("device", str(name), f"torch finds only {known} here: choose auto or cpu")
    if device.index is not None and device.index >= (count := torch.accelerator.device_count()):
        raise OptionError("device", str(name), f"there are {count}, counted from 0: give a lower number")
    return device


def device_of(model: nn.Module) -> torch.device:
    """The device that a model's weights are on; the CPU for a model without weights, such as an exported one."""
    weights = next(model.parameters(), None)
    return torch.device("cpu") if weights is None else weights.device


def synchronise(device: torch.device) -> None:
    """Wait until an accelerator has finished all queued work, so that a clock read afterwards includes it."""
    if device.type in ("cuda", "mps", "xpu"):
        torch.accelerator.synchronize(device)
