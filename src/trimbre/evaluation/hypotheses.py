"""Files of references and hypotheses as they were compared, utterance by utterance: JSON lines or tab-separated."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trimbre.errors import OptionError
from trimbre.evaluation.evaluate import EvaluationReport
from trimbre.files import refuse_file, written_whole

ENDINGS = (".jsonl", ".tsv")


def refuse_hypotheses(path: str | Path) -> None:
    """Raise OptionError where hypotheses cannot be written to a file: before anything is recognised."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise OptionError("hypotheses", str(path), "end the name in .jsonl (JSON lines) or .tsv (tab-separated)")
    refuse_file(path, "hypotheses")


def write_hypotheses(report: EvaluationReport, path: str | Path) -> None:
    """Write every utterance of every set, atomically: its set, id, reference, hypothesis, errors, words, and the
    hypothesis and errors of every reference recogniser. The file's ending decides on the form.

    Raises:
        OptionError: the name has another ending.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        refuse_hypotheses(path)
    rows = [{"set": name, **row} for name, one in report.sets.items() for row in one.utterances()]
    lines = _tab_separated(rows) if path.suffix.lower() == ".tsv" else (json.dumps(r, ensure_ascii=False) for r in rows)
    with written_whole(path) as beside:
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _tab_separated(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A heading and a line for each row; white space within a text, which separates words alone, is a single space."""
    yield "\t".join(rows[0])
    for row in rows:
        yield "\t".join(" ".join(str(value).split()) for value in row.values())
