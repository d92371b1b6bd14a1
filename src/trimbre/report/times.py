"""How long models take, for people."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from trimbre.benchmark.bench import Timing
from trimbre.benchmark.timing import RealTimeFactors, Spread
from trimbre.costs.latency import LatencyTable
from trimbre.inference.long_form import CHUNK_SECONDS


def times_table(timed: Mapping[str, RealTimeFactors]) -> Table:
    """Real-time factors of models that were timed side by side, from `looking.time_models`."""
    utterances, recording = timed["utterances"], timed["recording"]
    threads = f"{utterances.threads} thread{'s' if utterances.threads > 1 else ''}"
    table = Table(
        title=f"Real-time factor: seconds per second of audio, features included, {threads}",
        caption=f"{utterances.clips} utterances of {utterances.audio_seconds / utterances.clips:.1f} s on average, one "
        f"at a time; the same joined to a recording of {recording.audio_seconds:.0f} s, heard in chunks of "
        f"{CHUNK_SECONDS:.0f} s. Medians of {utterances.repeats} interleaved repeats, extremes in brackets.",
    )
    for heading in ("model", "utterances", "times faster", "recording", "times faster"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name in utterances.factors:
        cells = [name]
        for one in (utterances, recording):
            ratio = one.ratios[name]
            cells += [
                _spread(one.factors[name], 4),
                _spread(Spread(1 / ratio.median, 1 / ratio.high, 1 / ratio.low), 2),
            ]
        table.add_row(*cells)
    return table


def benches(timings: Sequence[Timing]) -> Iterator[Any]:
    """What `bench` measured: a table for each number of threads, and what each model needs."""
    models = dict.fromkeys(timing.subject.model for timing in timings)
    short = {model: Path(model).name for model in models}
    named = short if len(set(short.values())) == len(short) else {model: model for model in models}
    first = timings[0].subject
    for threads in dict.fromkeys(timing.subject.threads for timing in timings):
        among = [timing for timing in timings if timing.subject.threads == threads]
        table = Table(
            title=f"From audio to text, {threads} thread{'s' if threads > 1 else ''}: medians, extremes in brackets",
            caption=f"RTF: seconds per second of audio. Times faster than {named[first.model]} in the same runtime, "
            f"and than it in {first.runtime}.",
        )
        table.add_column("runtime", no_wrap=True)
        table.add_column("model")
        for heading in (*(f"ms, {length} s" for length in among[0].latency), "RTF", "times faster", f"{first.runtime}"):
            table.add_column(heading, justify="right")
        for one in among:
            latency = [f"{1000 * spread.median:.1f}" for spread in one.latency.values()]
            rates = [f"{one.rtf.median:.4f}", _spread(one.against_first, 2), f"{one.against_plain.median:.2f}"]
            table.add_row(one.subject.runtime, named[one.subject.model], *latency, *rates)
        yield table
    needs = Table(title="What each needs, in a process of its own with one thread")
    for heading in ("runtime", "model", "MB on disk", "MB of memory", "s to load"):
        needs.add_column(heading, justify="left" if heading in ("runtime", "model") else "right")
    for one in timings:
        if one.subject.threads == first.threads:
            memory = "" if one.peak_bytes is None else f"{one.peak_bytes / 1e6:.0f}"
            size = f"{one.file_bytes / 1e6:.1f}" if one.file_bytes else ""
            needs.add_row(one.subject.runtime, named[one.subject.model], size, memory, f"{one.load_seconds:.2f}")
    yield needs


def latency_table(written: LatencyTable, out: Path) -> Iterator[Any]:
    """What a table of times says."""
    table = Table(
        title=f"{written.runtime}, {written.threads} thread{'s' if written.threads > 1 else ''}, "
        f"{written.machine['processor']}: ms for one module, in {written.seconds:g} s of audio",
        caption=f"What no cut changes: {1000 * written.seconds * written.fixed:.2f} ms. The curves are within "
        f"{written.spread:.1%} of all that was measured.",
    )
    table.add_column("sort")
    table.add_column("by its width")
    for sort, curve in written.curves.items():
        table.add_row(sort, ", ".join(f"{width}: {1000 * written.seconds * cost:.2f}" for width, cost in curve))
    yield table
    yield f"{out}: prune for it with trimbre prune --budget latency --table {out}, or with --rtf in place of --remove"


def _spread(spread: Spread, places: int) -> str:
    return f"{spread.median:.{places}f} [{spread.low:.{places}f}, {spread.high:.{places}f}]"
