"""The rows of the table of claims: what is pruned, with which data, and what is asked of the result."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Claim:
    """An error rate that is at most so much above another model's on one set."""

    set: str
    beside: str
    """`dense`, `control`, or a name of the row's `beside`."""
    percent: float | None = None
    """The largest relative increase; None where points are asked."""
    points: float | None = None

    @property
    def asked(self) -> str:
        return f"at most {self.percent:+g} %" if self.points is None else f"at most {self.points:+g} points"

    def judge(self, comparison: Mapping[str, Any]) -> str:
        """Whether it holds, by `PairedDifference.to_json`.

        `yes`: by the upper end of the interval, one-sided for a relative difference; `estimate`: by the difference
        itself, and the data are too few to tell; else `no`.
        """
        if self.points is None:
            limit, value, bound = self.percent, comparison["relative_percent"], comparison[SUPPORTED]
        else:
            limit, value, bound = self.points, comparison["points"], comparison["interval"][1]
        assert limit is not None
        if bound is not None and bound <= limit:
            return "yes"
        return "estimate" if value is not None and value <= limit else "no"


CROSSED = "an4.json"
"""Figures of the rows that `an4.py` makes by cross-validation, beside those of rows of the file."""
SUPPORTED = "smallest_supported_margin_percent"


@dataclass(frozen=True)
class Row:
    """One pruned model and its evaluation."""

    name: str
    title: str
    model: str
    train: Sequence[str]
    dev: str
    sets: Mapping[str, str]
    """Data that it is judged on, by name."""
    timed: str
    """The set whose utterances are timed."""
    remove: float
    steps: int
    """Of recovery, and as many of the control; 0 for none of either."""
    step_seconds: float
    """Seconds of audio in a step, over all processes."""
    claims: Sequence[Claim]
    options: Sequence[str] = ()
    """More options of `trimbre prune`."""
    language: str | None = None
    """Of audio that does not state its own."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Other models that it is compared with, by name."""
    minutes: float | None = None
    """What its making may take, where that is asked."""
    clips: int = 20
    """Utterances that are timed."""


def read_rows(path: Path) -> dict[str, Row]:
    """The rows of a file by name, each with what its testbed states; its own options follow the testbed's."""
    read = json.loads(path.read_text())
    found = {}
    for name, own in read["rows"].items():
        testbed = read["testbeds"][own["testbed"]]
        merged = testbed | {key: value for key, value in own.items() if key != "testbed"}
        merged["options"] = [*testbed.get("options", ()), *own.get("options", ())]
        merged["claims"] = [Claim(**claim) for claim in own["claims"]]
        found[name] = Row(name=name, **merged)
    return found
