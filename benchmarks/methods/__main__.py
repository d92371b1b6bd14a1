"""Comparison of pruning methods at the same cost, with the same data, teacher and number of steps.

python benchmarks/methods list  benchmarks/methods/conformer.json
python benchmarks/methods run   benchmarks/methods/conformer.json --only "l0 50% 0" "taylor 50% 0"
python benchmarks/methods table benchmarks/methods/conformer.json

A testbed is a JSON file: model, data, steps and a set of entries, `methods` or `ablation`. Optional keys are `only`
(some of the entries), `seeds` (at most so many), `scratch_steps` (of small models from scratch, which need more),
`batches` (calibration batches for scores and refit), `rate` (learning rate of the weights), `layer_weight` (weight of
the hidden-state loss), `language`, and `if_present` (more data to train on and sets to watch, all of which are taken
or, where one of them is missing, none). `run` writes one file per cell to the folder beside the testbed and skips cells
whose file exists, so that an interrupted run resumes; `table` compares the cells.

`make demo` leaves the speech in demo/. Real speakers, data/real, are by

python recipes/teacher/real.py --speech SPEECH --out data/real

from a folder with AN4, speechocean762 and LJ Speech. `trimbre convert` writes data/whisper-base, and each language of
Common Voice is a folder of its clips:

trimbre corpus folder SPEECH/cv/de --no-split --language de --out data/cv/de
"""

import argparse
import sys
from pathlib import Path

from cells import cells, read_testbed
from rich.console import Console
from running import run

from trimbre.evaluation.compare_runs import Comparison, Run
from trimbre.files import write_json
from trimbre.report.comparison import write_comparison
from trimbre.report.terminal.comparison import comparison


def main(arguments: list[str] | None = None) -> int:
    """Run cells, or make the table of the finished ones."""
    parser = argparse.ArgumentParser(prog="benchmarks/methods", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("verb", choices=["list", "run", "table"])
    parser.add_argument("testbed", type=Path, nargs="?", default=Path("benchmarks/methods/conformer.json"))
    parser.add_argument("--only", nargs="*", help="titles of cells, such as 'taylor 50%% 0'")
    asked = parser.parse_args(arguments)
    testbed = read_testbed(asked.testbed)
    if asked.verb == "table":
        make_table(testbed["place"])
        return 0
    for cell in cells(testbed):
        if asked.only and cell.title not in asked.only:
            continue
        file = testbed["place"] / cell.file
        if asked.verb == "list":
            print(("done  " if file.is_file() else "      ") + cell.title)
        elif not file.is_file():
            print(f"== {cell.title}", file=sys.stderr, flush=True)
            file.parent.mkdir(exist_ok=True)
            write_json(file, run(cell, testbed))
    return 0


def make_table(place: Path) -> None:
    """Compare the finished cells of a testbed; writes the comparison beside them."""
    found = finished(place)
    write_comparison(found, place.with_name(f"{place.name}-table"))
    Console().print(*comparison(found.to_json()))


def finished(place: Path) -> Comparison:
    """The comparison of the finished cells of a testbed."""
    return Comparison.of([Run.read(file) for file in sorted(place.glob("*.json"))])


if __name__ == "__main__":
    sys.exit(main())
