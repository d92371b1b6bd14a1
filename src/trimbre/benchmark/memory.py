"""Memory that this process holds, in the machine's RAM or on an accelerator."""

import re
from pathlib import Path

import torch


def held_on(device: torch.device, *, peak: bool = False) -> int | None:
    """Bytes that this process holds on a device now, or their peak; None where the system does not say."""
    if device.type == "cpu":
        return resident(peak=peak)
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) if peak else torch.cuda.memory_allocated(device)


def resident(*, peak: bool = False) -> int | None:
    """Bytes of resident memory now, or their peak since the process began; None where the system is not Linux.

    Not from `getrusage`, whose peak a process inherits from its parent.
    """
    status = Path("/proc/self/status")
    name = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else None
