"""Memory that a process holds."""

import re
from pathlib import Path


def resident(*, at_most: bool = False) -> int | None:
    """Bytes of memory that this process holds now, or has held at most since it began; None where Linux doesn't say.

    Not `getrusage`, whose peak a process takes over from the one that started it.
    """
    status = Path("/proc/self/status")
    name = "VmHWM" if at_most else "VmRSS"
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else None
