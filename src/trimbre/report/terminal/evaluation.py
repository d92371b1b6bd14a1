"""Tables of error rates, and the verdicts of comparisons."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from trimbre.evaluation.bootstrap import FEWEST_SENTENCES
from trimbre.evaluation.evaluate import FAILS
from trimbre.evaluation.units import UNITS, Rate
from trimbre.report.formatting import by_speaker, deciding, intervals, plural, rate, title_of
from trimbre.report.terminal.tables import new_table, stacked

DECIDED: Mapping[Rate, str] = {
    "cer": "without spaces: the language is written without them",
    "mer": "characters where a language is written without spaces, words in the others",
}
"""What a rate other than the WER counts."""


def evaluation(found: Mapping[str, Any]) -> Iterator[Any]:
    """A table of an evaluation, then a line for each comparison; `found` is `EvaluationReport.to_json`."""
    yield evaluation_table(found)
    yield from verdicts(found)


def evaluation_table(found: Mapping[str, Any]) -> Table:
    """Error rates of a recogniser, a row for each set and a column for each reference."""
    decoding = "" if found["graph"] is None else f", decoded by the graph {found['graph']['out']}"
    names = references_of(found)
    title = title_of(deciding(one)[0] for one in found["sets"].values())
    table = new_table(
        [
            "set",
            "words" if title == "WER" else "length",
            *names,
            title,
            "sub/del/ins",
            "WER" if title == "CER" else "CER",
        ],
        title=f"Error rates in %, {over(found)}, normalize={found['normalize']}{decoding}",
        caption="\n".join(notes(found)),
    )
    for name, one in found["sets"].items():
        (kind, ours), others = deciding(one), one.get("references", {})
        other_rate = one["wer" if title == "CER" else "cer"]
        length = _length(ours, kind, title)
        table.add_row(
            f"{name}\n{plural(one['utterances'], 'utterance')}",
            length,
            *(stacked(rate(deciding(others[other])[1])) for other in names),
            stacked(rate(ours)),
            "/".join(str(ours[errors]) for errors in ("substitutions", "deletions", "insertions")),
            rate(other_rate).partition(" ")[0],
        )
    return table


def apart(one: Mapping[str, Any]) -> Iterator[str]:
    """What is counted apart in a set, by the model and then by its references."""
    others: Mapping[str, Any] = one.get("references", {})
    kind = deciding(one)[0]
    unit = UNITS[kind].partition(" ")[0].rstrip("s")
    if (found := one.get("open_asr")) and one["normalize"] != "open-asr":
        rates = [f", {name} {other['open_asr']['percent']:.2f} %" for name, other in others.items()]
        yield f"{found['percent']:.2f} % WER by the Open ASR Leaderboard's normaliser{''.join(rates)}"
    if empty := one.get("empty_transcripts"):
        rates = [f", {plural(other['hallucinated'], unit)} by {name}" for name, other in others.items()]
        where = plural(empty, "utterance")
        said = f"{plural(one['hallucinated'], unit)} recognised in {where} with an empty transcript"
        yield said + "".join(rates)
    for name, other in {"": one, **others}.items():
        if (loops := other.get("loops", {})).get("utterances"):
            rest = loops["percent_of_others"]
            by = f" by {name}" if name else ""
            without = "" if rest is None else f"; {rest:.2f} % {kind.upper()} without these"
            said = f"{plural(loops['utterances'], 'utterance')} recognised as a repetition loop{by}"
            yield f"{said}, {plural(loops['insertions'], unit)} inserted{without}"


def rates_table(found: Mapping[str, Any], candidate: str = "pruned") -> Table:
    """The rates that decide, alone: a column for each reference, such as `dense`, and one for the candidate."""
    names = references_of(found)
    title = title_of(deciding(one)[0] for one in found["sets"].values())
    table = new_table(
        ["set", "words" if title == "WER" else "length", *names, candidate],
        title=f"{title[0].upper()}{title[1:]} in %, {over(found)}, normalize={found['normalize']}",
    )
    for name, one in found["sets"].items():
        others = one.get("references", {})
        kind, ours = deciding(one)
        rates = [rate(deciding(others[other])[1]) for other in names] + [rate(ours)]
        length = _length(ours, kind, title)
        table.add_row(name, length, *(stacked(each) for each in rates))
    return table


def _length(ours: Mapping[str, Any], kind: Rate, title: str) -> str:
    """How much was judged, with its unit where that is not words in every set."""
    unit = "" if title == "WER" else f"\n{UNITS[kind]}".replace(" and ", " and\n")
    return f"{ours['reference']:,}{unit}"


def over(found: Mapping[str, Any]) -> str:
    """What the intervals of an evaluation are taken over."""
    return intervals(deciding(one)[1] for one in found["sets"].values())


def verdicts(found: Mapping[str, Any]) -> Iterator[str]:
    """A line for each set and reference: the verdict and the difference."""
    for name, one in found["sets"].items():
        for reference, other in one.get("references", {}).items():
            yield f"{name}, against {reference}: {other['comparison']['sentence']}"


def references_of(found: Mapping[str, Any]) -> list[str]:
    """Names of the references, the same for every set."""
    return list(next(iter(found["sets"].values())).get("references", {}))


def notes(found: Mapping[str, Any]) -> Iterator[str]:
    """Sizes, and what limits the figures."""
    size = found["size"]
    yield f"{size['parameters']:,} parameters, {size['macs_per_second']:,.0f} MACs per second of audio"
    for name, other in found["reference_sizes"].items():
        parameters, macs = (size[key] / other[key] for key in ("parameters", "macs_per_second"))
        yield f"{parameters:.1%} of the parameters of {name}, {macs:.1%} of its MACs (whole model)"
    rates = {name: deciding(one)[1] for name, one in found["sets"].items()}
    if said := by_speaker(rates, {name: one.get("speakers") for name, one in found["sets"].items()}):
        yield said
    few = [name for name, one in found["sets"].items() if one["utterances"] < FEWEST_SENTENCES]
    if few:
        yield f"fewer than {FEWEST_SENTENCES} sentences, too few for a verdict: {', '.join(few)}"
    for name, one in found["sets"].items():
        if unreadable := list(one["unreadable"]):
            named = ", ".join(unreadable[:5]) + (", ..." if len(unreadable) > 5 else "")
            yield f"{name}: {plural(len(unreadable), 'utterance')} left out, whose audio cannot be read: {named}"
    for name, one in found["sets"].items():
        if (kind := deciding(one)[0]) != "wer":
            yield f"{name}: decided by {kind.upper()}, {DECIDED[kind]}"
        yield from (f"{name}: {said}" for said in apart(one))
        if (above := one[kind]["percent"]) is not None and above > 100 * FAILS:
            yield f"{name}: {above:.1f} % {kind.upper()}, above {100 * FAILS:.0f} %: little of it is recognised"
    lost: Counter[str] = Counter()
    for one in found["sets"].values():
        lost.update(one["unspellable_characters"])
    if lost:
        yield f"{plural(lost.total(), 'character')} that the tokenizer cannot spell: {' '.join(sorted(lost))}"
