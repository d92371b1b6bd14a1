"""The last screen of the demo: error rates in three columns, and what a user wants to know in five lines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commands import HALF, SENTENCE, TIMED
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from speech import Sentence


def show(*, sets: Mapping[str, Path], sentence: Sentence) -> None:
    """Print both, from what the commands wrote."""
    pruned, timed = json.loads((HALF / "prune.json").read_text()), json.loads(TIMED.read_text())
    found = {name: pruned["evaluation"]["sets"][name] for name in sets}
    transcripts = {name: json.loads(file.read_text())["transcripts"][0]["text"] for name, file in SENTENCE.items()}
    console = Console()
    console.print(_table(found), highlight=False)
    for line in _lines(pruned, timed, found, sentence.text, transcripts):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(found: Mapping[str, Any]) -> Table:
    """Error rates of the model as it came, of the control and of the pruned model."""
    table = Table(
        title="WER in %, with 95 % intervals", title_justify="left", box=SIMPLE, pad_edge=False, show_edge=False
    )
    table.add_column("test set")
    for heading in ("words", "as it came", "control", "pruned by half"):
        table.add_column(heading, justify="right")
    for name, one in found.items():
        rates = (one["references"]["dense"]["wer"], one["references"]["control"]["wer"], one["wer"])
        table.add_row(name, f"{one['wer']['reference']:,}", *map(_rate, rates))
    return table


def _lines(
    pruned: Mapping[str, Any],
    timed: Mapping[str, Any],
    found: Mapping[str, Any],
    spoken: str,
    transcripts: Mapping[str, str],
) -> list[str]:
    removed = {cost: pruned["removed"][cost]["blocks"] for cost in ("params", "macs")}
    faster = {way: 1 / one["ratios"][str(HALF)]["median"] for way, one in timed["real_time"].items()}
    name, main = next(iter(found.items()))
    dense, control = (main["references"][one] for one in ("dense", "control"))
    before, after = dense["wer"]["percent"], main["wer"]["percent"]
    return [
        f"Removed     {removed['params']:.1%} of the blocks' parameters, {removed['macs']:.1%} of their MACs",
        f"Faster      {faster['recording']:.2f} times on long recordings, {faster['utterances']:.2f} times on short "
        "utterances (PyTorch, one thread)",
        f"Error rate  {before:.2f} % before, {after:.2f} % after, on {name}: {_verdict(dense)}; beside the control "
        f"{_verdict(control)}",
        f'Model       {HALF}, to be loaded with trimbre.load("{HALF}")',
        f"Example     spoken: {spoken!r}  dense: {transcripts['dense']!r}  pruned: {transcripts['pruned']!r}",
    ]


def _verdict(reference: Mapping[str, Any]) -> str:
    difference = reference["comparison"]
    low, high = difference["interval"]
    return f"{difference['verdict']}, {difference['points']:+.2f} points [{low:+.2f}, {high:+.2f}]"


def _rate(wer: Mapping[str, Any]) -> str:
    low, high = wer["interval"]
    return f"{wer['percent']:.2f} [{low:.1f}, {high:.1f}]"
