"""Comparison of pruning methods at the same cost, with the same data, teacher and number of steps.

python benchmarks/methods list  benchmarks/methods/conformer.json
python benchmarks/methods run   benchmarks/methods/conformer.json --only "l0 50% 0" "taylor 50% 0"
python benchmarks/methods table benchmarks/methods/conformer.json
python benchmarks/methods picture benchmarks/methods/conformer-untrained.json benchmarks/methods/conformer.json

A testbed is a JSON file: model, data, steps and a set of entries, `methods` or `ablation`. Optional keys are `only`
(some of the entries), `seeds` (at most so many), `scratch_steps` (of small models from scratch, which need more),
`batches` (calibration batches for scores and refit), `rate` (learning rate of the weights), `layer_weight` (weight of
the hidden-state loss), `language`, and `if_present` (more data to train on and sets to watch, all of which are taken
or, where one of them is missing, none). `run` writes one file per cell to the folder beside the testbed and skips cells
whose file exists, so that an interrupted run resumes; `table` compares the cells, and `picture` draws error rate
against measured time, a line a method and a panel a testbed (`title`).

`make demo` leaves the speech in demo/. Real speakers, data/real, are by

python recipes/teacher/real.py --speech SPEECH --out data/real

from a folder with AN4, speechocean762 and LJ Speech. `trimbre convert` writes data/whisper-base, and each language of
Common Voice is a folder of its clips:

trimbre corpus folder SPEECH/cv/de --no-split --language de --out data/cv/de
"""

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from cells import cells, read_testbed
from rich.console import Console
from running import run

from trimbre.evaluation.compare_runs import Comparison, Run
from trimbre.files import write_json
from trimbre.report.comparison import write_comparison
from trimbre.report.terminal.comparison import comparison


def main(arguments: list[str] | None = None) -> int:
    """Run the cells of testbeds, or show the finished ones."""
    parser = argparse.ArgumentParser(prog="benchmarks/methods", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("verb", choices=["list", "run", "table", "picture"])
    parser.add_argument("testbeds", type=Path, nargs="*", default=[Path("benchmarks/methods/conformer.json")])
    parser.add_argument("--only", nargs="*", help="cells by title, such as 'taylor 50%% 0'; of a picture, methods")
    parser.add_argument("--out", type=Path, default=Path("docs/methods.svg"), help="the picture")
    asked = parser.parse_args(arguments)
    if asked.verb == "picture":
        make_picture(asked.testbeds, asked.out, asked.only)
        return 0
    for path in asked.testbeds:
        if asked.verb == "table":
            make_table(path.with_suffix(""))
        else:
            run_cells(read_testbed(path), asked.only, dry=asked.verb == "list")
    return 0


def run_cells(testbed: Mapping[str, Any], only: Collection[str] | None, *, dry: bool) -> None:
    """Run the cells that have no file yet or, if `dry`, name all."""
    for cell in cells(testbed):
        if only and cell.title not in only:
            continue
        file = testbed["place"] / cell.file
        if dry:
            print(("done  " if file.is_file() else "      ") + cell.title)
        elif not file.is_file():
            print(f"== {cell.title}", file=sys.stderr, flush=True)
            file.parent.mkdir(exist_ok=True)
            write_json(file, run(cell, testbed))


def make_table(place: Path) -> None:
    """Compare the finished cells of a testbed; writes the comparison beside them."""
    found = finished(place)
    write_comparison(found, place.with_name(f"{place.name}-table"))
    Console().print(*comparison(found.to_json()))


def make_picture(testbeds: Sequence[Path], out: Path, methods: Sequence[str] | None) -> None:
    """Draw the finished cells of testbeds, a panel each."""
    from picture import draw  # needs matplotlib, of the extra `plots`

    panels = {}
    for path in testbeds:
        testbed = read_testbed(path)
        panels[testbed.get("title", testbed["name"])] = finished(path.with_suffix("")).to_json()
    draw(panels, out, named=methods)


def finished(place: Path) -> Comparison:
    """The comparison of the finished cells of a testbed."""
    return Comparison.of([Run.read(file) for file in sorted(place.glob("*.json"))])


if __name__ == "__main__":
    sys.exit(main())
