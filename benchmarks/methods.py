"""Is learning what to cut better than the other ways? Every method at the same cost, data, teacher and steps.

python benchmarks/methods.py run --testbed conformer --only "l0 50% 0" "taylor 50% 0"
python benchmarks/methods.py table --testbed conformer

`run` goes through the cells of a testbed that have no file yet in benchmarks/methods/TESTBED and writes one for each,
so that it goes on where it stopped; `table` makes the comparison of those that are there. A testbed is a JSON file
beside the cells: model, data and steps. All speech comes from recipes/teacher/train.sh.
"""

import argparse
import copy
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from trimbre.measuring import machine

from trimbre import runs
from trimbre.anatomy import anatomy_of
from trimbre.comparison import CONTROL, Comparison, Run
from trimbre.data.batches import training_batches
from trimbre.data.cuts import read_cuts
from trimbre.distill import Distiller
from trimbre.evaluation import evaluate_sets
from trimbre.files import write_json
from trimbre.loop import accelerator_for
from trimbre.methods.random import uniform_plan
from trimbre.models import Recogniser, load
from trimbre.options import BatchOptions, DistillOptions, GateOptions, PruneOptions, RecoverOptions, Target
from trimbre.pruning import aim_of
from trimbre.report.comparison import markdown, table, write
from trimbre.speed import times_faster
from trimbre.stages import Training, train_on
from trimbre.surgery import cut
from trimbre.target import Ledger
from trimbre.training import initialise

PLACE = Path(__file__).parent / "methods"
ALONE = DistillOptions(posterior_weight=0.0, layer_weight=0.0)
"""No teacher."""


@dataclass(frozen=True)
class Entry:
    """A way to a smaller model."""

    options: PruneOptions
    seeds: int = 1
    kind: str = "prune"
    """`prune`; `control`: train the unpruned model on; `scratch`: train a small one of the same cost from nothing."""


def entries(steps: int, learn: int) -> dict[str, Entry]:
    """Every method by name, for so many steps in all, of which those that learn take `learn` to decide."""
    learned = PruneOptions(learn_steps=learn, recover_steps=steps - learn)
    at_once = PruneOptions(learn_steps=0, recover_steps=steps)
    no_refit = RecoverOptions(refit=False)
    return {
        CONTROL: Entry(at_once, seeds=3, kind="control"),
        "l0": Entry(learned, seeds=3),
        "l0, no refit": Entry(replace(learned, recover=no_refit), seeds=3),
        "taylor": Entry(replace(at_once, method="taylor"), seeds=3),
        "taylor-iterative": Entry(replace(learned, method="taylor-iterative"), seeds=3),
        "l0, no distillation": Entry(replace(learned, distill=ALONE)),
        "l0, seed alone": Entry(at_once),
        "l0, gates alike": Entry(replace(learned, gates=GateOptions(spread=0.0))),
        "modules": Entry(replace(learned, method="modules")),
        "activation": Entry(replace(at_once, method="activation")),
        "magnitude": Entry(replace(at_once, method="magnitude")),
        "layers": Entry(replace(at_once, method="layers")),
        "random": Entry(replace(at_once, method="random")),
        "small from scratch": Entry(replace(at_once, distill=ALONE), kind="scratch"),
        "small from scratch, distilled": Entry(at_once, kind="scratch"),
    }


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


def cells(testbed: Mapping[str, Any]) -> Iterator[Cell]:
    """The cells of a testbed, one seed of all first."""
    known = entries(testbed["steps"], testbed["learn_steps"])
    for seed in range(max(entry.seeds for entry in known.values())):
        for share in testbed["shares"]:
            for name, entry in known.items():
                if seed < entry.seeds and not (name == CONTROL and share != testbed["shares"][0]):
                    yield Cell(name, share, seed, entry)


def run(cell: Cell, testbed: Mapping[str, Any]) -> dict[str, Any]:
    """Make a cell's model and tell what it took and how well it hears."""
    target = Target(cell.share, of=testbed.get("of", "blocks"))
    options = replace(cell.entry.options, target=target, seed=cell.seed)
    batches = BatchOptions(max_duration=testbed["max_duration"])
    judged = {"dev": testbed["judged"]["dev"], "watch": testbed["judged"]["watch"], "normalize": testbed["normalize"]}
    if cell.entry.kind == "prune":
        out = Path("runs/methods") / testbed["name"] / cell.file.removesuffix(".json")
        unfinished = out.with_name(f"{out.name}.run").exists()
        shutil.rmtree(out, ignore_errors=True)
        report = runs.prune(
            model=testbed["model"], train=testbed["train"], out=out, options=options, batches=batches, resume=unfinished
        )
        made = load(out)
    else:
        made, report = _trained(cell, testbed, options, batches)
    evaluation = evaluate_sets(
        recogniser=made, name=testbed["main"], dev=judged["dev"], watch=judged["watch"], normalize=judged["normalize"]
    )
    kept = ("options", "removed", "dense", "widths", "stages", "times_faster", "audio_seconds", "missed")
    return {
        "name": cell.name,
        **{key: report[key] for key in kept if key in report},
        "evaluation": evaluation.to_json(),
        "machine": machine(),
        "torch": torch.__version__,
    }


def _trained(
    cell: Cell, testbed: Mapping[str, Any], options: PruneOptions, batches: BatchOptions
) -> tuple[Recogniser, dict[str, Any]]:
    """A model that no method chose: the unpruned one, or one of the target's cost with random weights, trained."""
    teacher, processor = load(testbed["model"])
    cuts, accelerator = read_cuts(testbed["train"]), accelerator_for("auto")
    anatomy = anatomy_of(teacher)
    ledger = Ledger.of(teacher, anatomy, processor)
    model: Any = copy.deepcopy(teacher)
    removed = {name: dict.fromkeys(ledger.scopes, 0.0) for name in ("params", "macs")}
    if cell.entry.kind == "scratch":
        plan = uniform_plan(aim_of(anatomy, ledger, options), seed=options.seed)
        model, removed = cut(model, plan), ledger.shares(plan)
        torch.manual_seed(options.seed)
        initialise(model)
    training = Training(
        batches=lambda start: training_batches(
            cuts, processor=processor, options=batches, seed=options.seed, start=start
        ),
        accelerator=accelerator,
        seed=options.seed,
    )
    fitted = train_on(
        model,
        Distiller(teacher, options.distill),
        stage=cell.entry.kind,
        steps=options.recover_steps,
        options=options.recover,
        training=training,
    )
    made = Recogniser(model.eval(), processor)
    report = {
        "options": asdict(options),
        "removed": removed,
        "stages": {cell.entry.kind: fitted.to_json()},
        "times_faster": asdict(times_faster(made, Recogniser(teacher, processor))),
    }
    return made, report


def main() -> int:
    """Run cells, or make the table of those that were run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("verb", choices=["run", "table", "list"])
    parser.add_argument("--testbed", default="conformer")
    parser.add_argument("--only", nargs="*", help="titles of cells, such as 'taylor 50%% 0'")
    asked = parser.parse_args()
    place = PLACE / asked.testbed
    testbed = json.loads((PLACE / f"{asked.testbed}.json").read_text()) | {"name": asked.testbed}
    chosen = [cell for cell in cells(testbed) if not asked.only or cell.title in asked.only]
    if asked.verb == "list":
        for cell in chosen:
            print(("done  " if (place / cell.file).is_file() else "      ") + cell.title)
        return 0
    if asked.verb == "run":
        for cell in chosen:
            if not (place / cell.file).is_file():
                print(f"== {cell.title}", file=sys.stderr, flush=True)
                place.mkdir(parents=True, exist_ok=True)
                write_json(place / cell.file, run(cell, testbed))
        return 0
    found = Comparison.of([Run.read(str(file)) for file in sorted(place.glob("*.json"))])
    write(found, PLACE / f"{asked.testbed}-table")
    Console().print(table(found.to_json()))
    print(markdown(found.to_json()))
    return 0


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    sys.exit(main())
