"""Numbers and phrases as tables, lines and model cards write them."""

from collections.abc import Iterable, Mapping
from typing import Any

from trimbre.evaluation.units import Rate

PER_SECOND = {"params": "", "macs": " per second of audio", "latency": " s per second of audio"}
"""Unit of each cost, to follow its amount."""


def amount(cost: str, value: float) -> str:
    """An amount of a cost, with as many digits as it needs."""
    return f"{value:.3g}" if cost == "latency" else f"{value:,.0f}"


def deciding(found: Mapping[str, Any]) -> tuple[Rate, Mapping[str, Any]]:
    """Name and figures of the error rate that decides, of `Evaluation.to_json`; words alone did in older reports."""
    name: Rate = found.get("decides", "wer")
    return name, found[name]


def title_of(rates: Iterable[Rate]) -> str:
    """What a column of these rates is called."""
    named = set(rates)
    return named.pop().upper() if len(named) == 1 else "error rate"


def rate(wer: Mapping[str, Any]) -> str:
    """An error rate in percent with its interval: `4.20 [3.61, 4.83]`."""
    if wer["percent"] is None:
        return "–"
    low, high = wer["interval"]
    return f"{wer['percent']:.2f} [{low:.2f}, {high:.2f}]"


def intervals(found: Iterable[Mapping[str, Any]]) -> str:
    """What the intervals of these error rates are taken over; older reports resampled sentences alone."""
    kinds = sorted({one.get("resampled", "sentences") for one in found})
    return f"95 % intervals over {' or '.join(kinds)}"


def by_speaker(found: Mapping[str, Mapping[str, Any]], speakers: Mapping[str, int | None]) -> str | None:
    """The sets whose intervals are over speakers, with how many: `intervals over speakers: an4 (84)`."""
    sets = [f"{name} ({speakers[name]})" for name, one in found.items() if one.get("resampled") == "speakers"]
    return f"intervals over speakers: {', '.join(sets)}" if sets else None


def plural(count: int, noun: str) -> str:
    """A count and its noun: `1 thread`, `2 threads`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def latency_line(found: Mapping[str, Any]) -> str:
    """Latency of a pruned model: as the table predicts it and, where the table is of this machine, as measured."""
    said = (
        f"latency in {found['where']}, {found['table']['seconds']:g} s of audio: predicted {found['pruned']:.3g} "
        f"s per second of audio, {found['unpruned']:.3g} before"
    )
    if measured := found["measured"]:
        said += (
            f"; measured {measured['pruned']:.3g}, {measured['unpruned']:.3g} before "
            f"({1 / measured['share']:.2f} times faster)"
        )
    return said


def batch_line(found: Mapping[str, Any]) -> str:
    """The effective batch: `up to 32 s of audio in a step of 2 processes`."""
    processes = found["processes"]
    said = f"up to {found['step_seconds']:g} s of audio in a step"
    return said + (f" of {processes} processes" if processes > 1 else "")


def verdict(difference: Mapping[str, Any]) -> str:
    """The verdict of a difference with its margin: `not worse than 5 %`."""
    found: str = difference["verdict"]
    return f"{found} than {difference['margin_percent']:g} %" if found == "not worse" else found


def points(difference: Mapping[str, Any]) -> str:
    """A difference of error rates in points with its interval: `+1.30 [+1.01, +1.61]`."""
    low, high = difference["interval"]
    return f"{difference['points']:+.2f} [{low:+.2f}, {high:+.2f}]"
