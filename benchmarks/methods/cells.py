"""Testbeds, and the cells that they consist of: one run each."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entries import ENTRIES, Entry

from trimbre.evaluation.compare_runs import CONTROL


@dataclass(frozen=True)
class Cell:
    """One run of the benchmark."""

    name: str
    share: float
    seed: int
    entry: Entry

    @property
    def title(self) -> str:
        return f"{self.name} {self.share:.0%} {self.seed}"

    @property
    def file(self) -> str:
        return "-".join(self.title.replace(",", "").replace("%", "").split()) + ".json"


def read_testbed(path: Path) -> dict[str, Any]:
    """A testbed by its file, with the file's stem as `name`, `place`, the folder of its cells, and what is present."""
    testbed = json.loads(path.read_text()) | {"name": path.stem, "place": path.with_suffix("")}
    more = testbed.pop("if_present", {"train": "", "watch": {}})
    folders = [Path(name) for names in (more["train"], *more["watch"].values()) for name in names.split(",") if name]
    if missing := [folder for folder in folders if not folder.exists()]:
        named = ", ".join(dict.fromkeys(map(str, folders)))
        print(f"{path}: without {named}, for {missing[0]} is missing", file=sys.stderr)
    elif folders:
        testbed["train"] += "," + more["train"]
        testbed["judged"]["watch"] |= more["watch"]
    return testbed


def cells(testbed: Mapping[str, Any]) -> Iterator[Cell]:
    """The cells of a testbed, the first seed of all entries before the second."""
    known = ENTRIES[testbed["entries"]](testbed["steps"], testbed["learn_steps"])
    if unknown := [name for name in testbed.get("only", ()) if name not in known]:
        raise SystemExit(f"{testbed['name']}.json: only: {unknown[0]}: give names of {', '.join(known)}")
    known = {name: entry for name, entry in known.items() if name in testbed.get("only", known)}
    for seed in range(min(max(entry.seeds for entry in known.values()), testbed.get("seeds", sys.maxsize))):
        for share in testbed["shares"]:
            for name, entry in known.items():
                if seed < entry.seeds and not (name == CONTROL and share != testbed["shares"][0]):
                    yield Cell(name, share, seed, entry)
