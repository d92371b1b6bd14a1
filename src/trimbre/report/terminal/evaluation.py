"""Tables of error rates, and the verdicts of comparisons."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from trimbre.evaluation.bootstrap import FEWEST_SENTENCES
from trimbre.report.formatting import plural, rate
from trimbre.report.terminal.tables import new_table, stacked


def evaluation(found: Mapping[str, Any]) -> Iterator[Any]:
    """A table of an evaluation, then a line for each comparison; `found` is `EvaluationReport.to_json`."""
    yield evaluation_table(found)
    yield from verdicts(found)


def evaluation_table(found: Mapping[str, Any]) -> Table:
    """Error rates of a recogniser, a row for each set and a column for each reference."""
    decoding = "" if found["graph"] is None else f", decoded by the graph {found['graph']['out']}"
    names = references_of(found)
    table = new_table(
        ["set", "words", *names, "WER", "sub/del/ins", "CER"],
        title=f"Error rates in %, 95 % intervals over sentences, normalize={found['normalize']}{decoding}",
        caption="\n".join(notes(found)),
    )
    for name, one in found["sets"].items():
        wer, others = one["wer"], one.get("references", {})
        table.add_row(
            f"{name}\n{plural(one['utterances'], 'utterance')}",
            f"{wer['reference']:,}",
            *(stacked(rate(others[other]["wer"])) for other in names),
            stacked(rate(wer)),
            "/".join(str(wer[kind]) for kind in ("substitutions", "deletions", "insertions")),
            rate(one["cer"]).partition(" ")[0],
        )
    return table


def rates_table(found: Mapping[str, Any], candidate: str = "pruned") -> Table:
    """Word error rates alone: a column for each reference, such as `dense` and `control`, and one for the candidate."""
    names = references_of(found)
    table = new_table(
        ["set", "words", *names, candidate],
        title=f"WER in %, 95 % intervals over sentences, normalize={found['normalize']}",
    )
    for name, one in found["sets"].items():
        others = one.get("references", {})
        rates = [rate(others[other]["wer"]) for other in names] + [rate(one["wer"])]
        table.add_row(name, f"{one['wer']['reference']:,}", *(stacked(each) for each in rates))
    return table


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
    few = [name for name, one in found["sets"].items() if one["utterances"] < FEWEST_SENTENCES]
    if few:
        yield f"fewer than {FEWEST_SENTENCES} sentences, too few for a verdict: {', '.join(few)}"
    for name, one in found["sets"].items():
        if unreadable := list(one["unreadable"]):
            named = ", ".join(unreadable[:5]) + (", ..." if len(unreadable) > 5 else "")
            yield f"{name}: {plural(len(unreadable), 'utterance')} left out, whose audio cannot be read: {named}"
    lost: Counter[str] = Counter()
    for one in found["sets"].values():
        lost.update(one["unspellable_characters"])
    if lost:
        yield f"{plural(lost.total(), 'character')} that the tokenizer cannot spell: {' '.join(sorted(lost))}"
