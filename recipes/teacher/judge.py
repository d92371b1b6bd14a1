"""Judge the teacher: error rates of held-out sets, as they are and with frames that begin half a hop later.

    python recipes/teacher/judge.py models/telephone-en --set an4=data/real/an4/test prompts=data/en/test \\
        tight=data/tight-real --out runs/judged.json

Greedy decoding, both sides normalised `basic`. A runtime's frames may lie half a hop from those trained on, so each set
is recognised again without its first 5 ms; *changed* is the share of the words by which the two texts differ.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lhotse import CutSet
from rich.console import Console
from rich.table import Table

from trimbre.data.cuts import read_cuts
from trimbre.evaluation.bootstrap import word_errors
from trimbre.evaluation.score import score
from trimbre.models.loading import load
from trimbre.report.formatting import rate

HALF_HOP = 0.005
"""Seconds."""


def judge(model: Any, processor: Any, sets: Mapping[str, CutSet]) -> dict[str, dict[str, Any]]:
    """For each set: `wer` as it is, `wer_shifted` from half a hop on, and `changed`, words that differ in percent."""
    found = {}
    for name, cuts in sets.items():
        plain = score(model=model, processor=processor, data=cuts, name=name)
        shifted = score(model=model, processor=processor, data=later(cuts), name=name)
        differing = word_errors(plain.hypotheses, shifted.hypotheses)
        words = plain.words.to_json()
        found[name] = {
            "utterances": len(plain.ids),
            "wer": words,
            "wer_shifted": shifted.words.to_json(),
            "changed": round(100 * int(differing.per_sentence.sum()) / words["reference"], 2),
        }
    return found


def later(cuts: CutSet) -> CutSet:
    """The same utterances without their first half hop."""
    return CutSet.from_cuts(cut.truncate(offset=HALF_HOP, preserve_id=True) for cut in cuts)


def show(found: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Print the table."""
    table = Table(title=title)
    for heading in ("set", "utterances", "words", "WER in %", "half a hop later", "words changed in %"):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    for name, one in found.items():
        cells = (rate(one["wer"]), rate(one["wer_shifted"]), f"{one['changed']:.2f}")
        table.add_row(name, f"{one['utterances']:,}", f"{one['wer']['reference']:,}", *cells)
    Console().print(table)


def main() -> None:
    """Print a table, and write its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("--set", nargs="+", required=True, metavar="NAME=PATH", dest="sets", help="cuts to judge on")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    asked = parser.parse_args()
    if wrong := [one for one in asked.sets if "=" not in one]:
        parser.error(f"--set {wrong[0]}: give NAME=PATH")
    model, processor = load(asked.model)
    pairs = (one.split("=", 1) for one in asked.sets)
    found = judge(model, processor, {name: read_cuts(path) for name, path in pairs})
    show(found, asked.model)
    if asked.out:
        asked.out.write_text(json.dumps({"model": asked.model, "sets": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
