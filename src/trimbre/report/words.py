"""Figures as they are written in tables, lines and cards."""

from collections.abc import Mapping
from typing import Any

PER_SECOND = {"params": "", "macs": " per second of audio", "latency": " s per second of audio"}


def amount(cost: str, much: float) -> str:
    """So much of a cost, in its own places."""
    return f"{much:.3g}" if cost == "latency" else f"{much:,.0f}"


def time_line(found: Mapping[str, Any]) -> str:
    """How fast a model became: by the table, and by the clock where that's the table's."""
    said = (
        f"in {found['where']}, {found['table']['seconds']:g} s of audio at once: foretold {found['pruned']:.3g} "
        f"seconds per second of audio, {found['unpruned']:.3g} before"
    )
    if measured := found["measured"]:
        said += (
            f"; measured {measured['pruned']:.3g}, {measured['unpruned']:.3g} before "
            f"({1 / measured['share']:.2f} times faster)"
        )
    return said


def steps_of(found: Mapping[str, Any]) -> str:
    """The effective batch."""
    processes = found["processes"]
    return f"up to {found['step_seconds']:g} s in a step" + (f" of {processes} processes" if processes > 1 else "")


def rate(wer: Mapping[str, Any]) -> str:
    """An error rate with its interval."""
    low, high = wer["interval"]
    return f"{wer['percent']:.2f} [{low:.2f}, {high:.2f}]"
