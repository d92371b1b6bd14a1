"""Error rates and how they compare, for people."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from trimbre.evaluation.bootstrap import FEWEST_SENTENCES
from trimbre.evaluation.evaluate import EvaluationReport
from trimbre.report.words import rate


def rates_table(evaluation: Mapping[str, Any], compared_with: str) -> Table:
    """Error rates of a pruned model beside the other's, from `EvaluationReport.to_json`."""
    table = Table(
        title=f"WER in %, 95 % intervals over sentences, normalize = {evaluation['normalize']}",
        caption=f"compared with {compared_with}",
    )
    for heading in ("set", "words", "unpruned", "pruned"):
        table.add_column(heading, justify="right" if heading == "words" else "left")
    for name, one in evaluation["sets"].items():
        other = rate(one["teacher"]["wer"]) if "teacher" in one else ""
        table.add_row(name, str(one["wer"]["reference"]), other, rate(one["wer"]))
    return table


def evaluation_table(found: EvaluationReport) -> Table:
    """Error rates of a recogniser, beside the teacher's where there is one."""
    decoded = "" if found.graph is None else f", decoded by the graph {found.graph['out']}"
    table = Table(
        title=f"Error rates in %, 95 % intervals over sentences, normalize = {found.normalize}{decoded}",
        caption=_sizes(found),
    )
    others = ["teacher's WER"] if found.teacher_size else []
    for heading in ("set", "utterances", "words", "WER", *others, "sub / del / ins", "CER"):
        table.add_column(heading, justify="left" if heading == "set" else "right")
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
            row.insert(4, rate(result.teacher.words.to_json()))
        table.add_row(*row)
    return table


def verdicts(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """A line for each set that was compared, from `EvaluationReport.to_json`."""
    for name, one in evaluation["sets"].items():
        if "comparison" in one:
            yield f"{name}: {one['comparison']['sentence']}"


def _sizes(found: EvaluationReport) -> str:
    size, other = found.size, found.teacher_size
    parts = [f"{size.parameters:,} parameters, {size.macs_per_second:,.0f} MACs per second of audio"]
    if other:
        parameters, macs = size.parameters / other.parameters, size.macs_per_second / other.macs_per_second
        parts.append(f"{parameters:.1%} of the teacher's parameters, {macs:.1%} of its MACs (whole model)")
    if lost := sum((Counter(result.evaluation.unspellable) for result in found.sets.values()), Counter[str]()):
        parts.append(f"{lost.total()} characters that the tokenizer can't spell: {' '.join(sorted(lost))}")
    return "\n".join(parts)
