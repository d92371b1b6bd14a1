"""Tables of real-time factors, benchmarks and latency tables."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from trimbre.benchmark.bench import Timing
from trimbre.benchmark.timing import RealTimeFactors, Spread
from trimbre.costs.latency import LatencyTable
from trimbre.report.formatting import plural
from trimbre.report.terminal.tables import new_table, stacked


def real_time_table(timed: Mapping[str, RealTimeFactors]) -> Table:
    """Real-time factors of models on utterances and on one long recording."""
    utterances, recording = timed["utterances"], timed["recording"]
    table = new_table(
        ["model", "RTF,\nutterances", "times\nfaster", "RTF,\nrecording", "times\nfaster"],
        title=f"Real-time factor: seconds per second of audio, features included, {where(utterances)}",
        caption=f"{plural(utterances.clips, 'utterance')} of {utterances.audio_seconds / utterances.clips:.1f} s on "
        f"average, one at a time; the same joined to a recording of {recording.audio_seconds:.0f} s, recognised "
        f"in chunks. Medians of {utterances.repeats} interleaved repeats, extremes in brackets.",
    )
    short = short_names(list(utterances.factors))
    for name in utterances.factors:
        cells = [short[name]]
        for one in (utterances, recording):
            ratio = one.ratios[name]
            faster = Spread(1 / ratio.median, 1 / ratio.high, 1 / ratio.low)
            cells += [_spread(one.factors[name], 4), _spread(faster, 2)]
        table.add_row(*cells)
    return table


def short_names(models: Sequence[str]) -> dict[str, str]:
    """The last part of each model's path, where these differ; otherwise the whole path."""
    short = {model: Path(model).name for model in models}
    return short if len(set(short.values())) == len(short) else {model: model for model in models}


def where(timed: RealTimeFactors) -> str:
    """The device that was timed, or the threads of the CPU."""
    return plural(timed.threads, "thread") if timed.device == "cpu" else timed.device


def benches(timings: Sequence[Timing]) -> Iterator[Any]:
    """Results of `bench`: a table for each number of threads, then the needs of each model."""
    named = short_names([timing.subject.model for timing in timings])
    first = timings[0].subject
    for threads in dict.fromkeys(timing.subject.threads for timing in timings):
        among = [timing for timing in timings if timing.subject.threads == threads]
        lengths = [f"ms,\n{length} s" for length in among[0].latency]
        table = new_table(
            ["runtime", "model", *lengths, "RTF", "times\nfaster", f"than in\n{first.runtime}"],
            title=f"From audio to text, {plural(threads, 'thread')}: medians, extremes in brackets",
            caption=f"RTF: seconds per second of audio. Times faster than {named[first.model]} in the same runtime, "
            f"and than {named[first.model]} in {first.runtime}.",
            left=["model"],
        )
        for one in among:
            latency = [f"{1000 * spread.median:.1f}" for spread in one.latency.values()]
            rates = [f"{one.rtf.median:.4f}", _spread(one.against_first, 2), f"{one.against_plain.median:.2f}"]
            table.add_row(_runtime(one), named[one.subject.model], *latency, *rates)
        yield table
    yield _needs([timing for timing in timings if timing.subject.threads == first.threads], named)


def _needs(timings: Sequence[Timing], named: Mapping[str, str]) -> Table:
    """Size on disk, memory and load time of each model in each runtime."""
    table = new_table(
        ["runtime", "model", "MB on disk", "MB of memory", "s to load"],
        title="What each model needs, in a process of its own with one thread",
        left=["model"],
    )
    for one in timings:
        memory = "" if one.peak_bytes is None else f"{one.peak_bytes / 1e6:.0f}"
        size = f"{one.file_bytes / 1e6:.1f}" if one.file_bytes else ""
        table.add_row(_runtime(one), named[one.subject.model], size, memory, f"{one.load_seconds:.2f}")
    return table


def _runtime(timing: Timing) -> str:
    """A runtime, with its device where that is not the CPU."""
    return timing.subject.runtime + ("" if timing.device == "cpu" else f"\non {timing.device}")


def latency_table(written: LatencyTable, out: Path) -> Iterator[Any]:
    """Curves of a latency table."""
    table = new_table(
        ["module", "ms by width"],
        title=f"{written.runtime}, {plural(written.threads, 'thread')}, {written.machine['processor']}: ms of one "
        f"module in {written.seconds:g} s of audio",
        caption=f"Fixed cost, which no cut changes: {1000 * written.seconds * written.fixed:.2f} ms. The curves are "
        f"within {written.spread:.1%} of all measurements.",
        left=["ms by width"],
    )
    for module, curve in written.curves.items():
        table.add_row(module, ", ".join(f"{width}: {1000 * written.seconds * cost:.2f}" for width, cost in curve))
    yield table
    yield f"{out}: a latency table, for pruning to a latency budget or a real-time factor"


def _spread(spread: Spread, places: int) -> str:
    return stacked(f"{spread.median:.{places}f} [{spread.low:.{places}f}, {spread.high:.{places}f}]")
