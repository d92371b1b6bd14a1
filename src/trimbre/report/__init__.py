"""What runs say of themselves to people, on the terminal."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from trimbre.benchmarking import Timing
from trimbre.budget import TITLES
from trimbre.budget.latency import LatencyTable
from trimbre.data.corpus import Corpus
from trimbre.evaluation import EvaluationReport
from trimbre.graphs import GraphReport
from trimbre.speed import RealTimeFactors, Spread
from trimbre.statistics import FEWEST_SENTENCES
from trimbre.transcription import CHUNK_SECONDS

PER_SECOND = {"params": "", "macs": " per second of audio", "latency": " s per second of audio"}


def corpus(written: Corpus) -> Iterator[Any]:
    """What a corpus holds."""
    yield f"{written.out}: from {written.source}, licence: {written.licence}"
    table = Table()
    for heading in ("set", "utterances", "hours"):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    for name, count in written.utterances.items():
        table.add_row(name, str(count), f"{written.hours[name]:.2f}")
    yield table
    if written.skipped:
        yield f"{len(written.skipped)} could not be used, such as: {written.skipped[0]} (all in corpus.json)"


def inspection(found: Mapping[str, Any]) -> Iterator[Any]:
    """What can be cut from a model, kind by kind."""
    dense = found["dense"]
    table = Table(title=f"{found['model']}: what can be cut, and its share of the blocks")
    table.add_column("kind", no_wrap=True)
    for heading in ("modules", "units", *(TITLES[cost] for cost in dense)):
        table.add_column(heading, justify="right")
    for name, kind in found["kinds"].items():
        shares = [f"{share:.1%}" for share in kind["share_of_blocks"].values()]
        table.add_row(f"{name} ({kind['unit']}s)", str(kind["modules"]), f"{kind['units']:,}", *shares)
    yield table
    for cost in dense:
        sizes = ", ".join(f"{scope} {amount(cost, dense[cost][scope])}" for scope in dense[cost])
        yield f"{TITLES[cost]}{' (MACs)' if cost == 'macs' else ''}{PER_SECOND[cost]}: {sizes}"
    if (distance := found.get("masked_equals_sliced_within")) is not None:
        yield f"masked equals sliced: outputs differ by at most {distance:.1e} of their norm"


def foresight(found: Mapping[str, Any]) -> Iterator[Any]:
    """What a run would do, without doing it."""
    yield from inspection(found)
    options, data = found["options"], found["data"]
    for cost, much in found["to_remove"].items():
        yield (
            f"to remove: {options['target']['remove']:.1%} of the {TITLES[cost]} of the {found['of']}, "
            f"{amount(cost, much)}{PER_SECOND[cost]} "
            f"(at most {found['reachable'][cost]:.1%} can be removed)"
        )
    labelled = f"{data['transcribed']} of them with transcripts"
    yield f"training data: {data['utterances']} utterances, {data['hours']:.2f} h, {labelled}"
    steps = f"{found['learn_steps']} to learn what to cut, {options['recover_steps']} to recover"
    yield f"steps: {steps}, {steps_of(found)}; nothing is written"


def pruning(found: Mapping[str, Any], out: Path) -> Iterator[Any]:
    """What a run removed, where from, and what it did to the error rates."""
    yield widths_table(found["widths"])
    yield shares_table(found["removed"], found["dense"])
    if "latency" in found:
        yield time_line(found["latency"])
    if found["evaluation"]:
        yield rates_table(found["evaluation"], found["compared_with"])
    minutes = sum(stage["minutes"] for name, stage in found["stages"].items() if name != "control")
    moved = ""
    if (share := found["units_moved_by_search"]) is not None:
        moved = f"; the search for the exact cost moved {share:.1%} of the units"
    yield (
        f"method {found['options']['method']}; cut equals gated within {found['cut_equals_gated_within']:.1e}{moved}; "
        f"{found['times_faster']['median']:.2f} times faster (PyTorch, one thread, a clip of 10 s); "
        f"trained for {minutes:.1f} min on {found['audio_seconds'] / 3600:.1f} h of audio, {steps_of(found)}"
    )
    yield f"{out}: load it with trimbre.load({str(out)!r})"


def exported(found: Mapping[str, Any]) -> Iterator[Any]:
    """What was exported, how large it is and what it was compared with."""
    yield (
        f"{found['out']}: for {found['to']}, {found['precision']}, {found['bytes'] / 1e6:.1f} MB"
        + (f" ({found['bytes'] / found['float32_bytes']:.0%} of float32)" if found["precision"] == "int8" else "")
    )
    yield f"the float32 graph equals the model within {found['equal_to_model_within']:.1e} of the output's norm"
    for precision, words in found["wer"].items():
        yield f"WER of {precision}: {words['percent']:.2f} % ({words['reference']:,} words)"


def graph(made: GraphReport) -> Iterator[Any]:
    """What a decoding graph holds, and what it was made from."""
    source = "an ARPA file" if made.sentences is None else f"{made.sentences:,} sentences"
    yield (
        f"{made.out}: {made.words:,} words, {made.ngrams:,} n-grams of up to {made.order} words from {source}, "
        f"weight {made.weight:g}"
    )
    if made.left_out:
        named = ", ".join(made.left_out[:5]) + (", ..." if len(made.left_out) > 5 else "")
        yield f"{len(made.left_out)} words were left out because the model's vocabulary cannot spell them: {named}"


def widths_table(widths: Mapping[str, tuple[int, int]]) -> Table:
    """Units kept in every module, a row for each layer; `widths` is path -> (units now, units before)."""
    table = Table(title="Units kept of those before (–: none)")
    names = list(dict.fromkeys(path.rpartition(".")[2] for path in widths))
    table.add_column("layer")
    for name in names:
        table.add_column(name, justify="right")
    rows: dict[str, dict[str, str]] = {}
    for path, (now, before) in widths.items():
        layer, _, name = path.rpartition(".")
        rows.setdefault(layer, {})[name] = f"{now} / {before}" if now else "–"
    for layer, cells in rows.items():
        table.add_row(layer, *(cells.get(name, "") for name in names))
    return table


def shares_table(removed: Mapping[str, Mapping[str, float]], dense: Mapping[str, Mapping[str, float]]) -> Table:
    """Share removed of each cost, by what it is a share of."""
    table = Table(title="Removed, by what it is a share of")
    table.add_column("cost")
    scopes = list(removed["params"])
    for heading in (*scopes, "model before", "after"):
        table.add_column(heading, justify="right")
    for name, title in (("params", "parameters"), ("macs", "MACs per second"), ("latency", "s per second")):
        if name not in removed:
            continue
        before = dense[name]["model"]
        after = before * (1 - removed[name]["model"])
        shares = [f"{removed[name][scope]:.1%}" for scope in scopes]
        table.add_row(title, *shares, amount(name, before), amount(name, after))
    return table


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


def rates_table(evaluation: Mapping[str, Any], compared_with: str) -> Table:
    """Error rates of a pruned model beside the other's, from `EvaluationReport.to_json`."""
    table = Table(
        title=f"WER in %, 95 % intervals over sentences, normalize = {evaluation['normalize']}",
        caption=f"compared with {compared_with}",
    )
    for heading in ("set", "words", "unpruned", "pruned", "verdict"):
        table.add_column(heading, justify="right" if heading == "words" else "left")
    for name, one in evaluation["sets"].items():
        other = rate(one["teacher"]["wer"]) if "teacher" in one else ""
        sentence = one["comparison"]["sentence"] if "comparison" in one else ""
        table.add_row(name, str(one["wer"]["reference"]), other, rate(one["wer"]), sentence)
    return table


def evaluation_table(found: EvaluationReport) -> Table:
    """Error rates of a recogniser, beside the teacher's where there is one."""
    decoded = "" if found.graph is None else f", decoded by the graph {found.graph['out']}"
    table = Table(
        title=f"Error rates in %, 95 % intervals over sentences, normalize = {found.normalize}{decoded}",
        caption=_sizes(found),
    )
    for heading in ("set", "utterances", "words", "WER", "sub / del / ins", "CER"):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    if found.teacher_size:
        table.add_column("teacher's WER", justify="right")
        table.add_column("verdict")
    for name, result in found.sets.items():
        ours = result.evaluation
        words, characters = ours.words.to_json(), ours.characters.to_json()
        row = [
            name,
            f"{len(ours.ids)}{' (few)' if len(ours.ids) < FEWEST_SENTENCES else ''}",
            str(words["reference"]),
            rate(words),
            f"{words['substitutions']} / {words['deletions']} / {words['insertions']}",
            rate(characters),
        ]
        if result.teacher:
            row += [rate(result.teacher.words.to_json()), result.sentence]
        table.add_row(*row)
    return table


def _sizes(found: EvaluationReport) -> str:
    size, other = found.size, found.teacher_size
    parts = [f"{size.parameters:,} parameters, {size.macs_per_second:,.0f} MACs per second of audio"]
    if other:
        parameters, macs = size.parameters / other.parameters, size.macs_per_second / other.macs_per_second
        parts.append(f"{parameters:.1%} of the teacher's parameters, {macs:.1%} of its MACs (whole model)")
    if lost := sum((Counter(result.evaluation.unspellable) for result in found.sets.values()), Counter[str]()):
        parts.append(f"{lost.total()} characters that the tokenizer can't spell: {' '.join(sorted(lost))}")
    return "\n".join(parts)


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


def steps_of(found: Mapping[str, Any]) -> str:
    """The effective batch."""
    processes = found["processes"]
    return f"up to {found['step_seconds']:g} s in a step" + (f" of {processes} processes" if processes > 1 else "")


def rate(wer: Mapping[str, Any]) -> str:
    """An error rate with its interval."""
    low, high = wer["interval"]
    return f"{wer['percent']:.2f} [{low:.2f}, {high:.2f}]"


def _spread(spread: Spread, places: int) -> str:
    return f"{spread.median:.{places}f} [{spread.low:.{places}f}, {spread.high:.{places}f}]"
