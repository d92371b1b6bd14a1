"""Comparison of pruning methods at the same cost, with the same data, teacher and number of steps.

python benchmarks/methods.py list  benchmarks/methods/conformer.json
python benchmarks/methods.py run   benchmarks/methods/conformer.json --only "l0 50% 0" "taylor 50% 0"
python benchmarks/methods.py table benchmarks/methods/conformer.json

A testbed is a JSON file: model, data, steps and a set of entries, `methods` or `ablation`. Optional keys are `only`
(some of the entries), `seeds` (at most so many), `batches` (calibration batches for scores and refit), `rate` (learning
rate of the weights) and `layer_weight` (weight of the hidden-state loss). `run` writes one file per cell to the folder
beside the testbed and skips cells whose file exists, so that an interrupted run resumes; `table` compares the cells.
The speech comes from recipes/teacher/train.sh, Whisper's also from the commands in benchmarks/whisper.py; data/tiny.en
is written by `trimbre convert`.
"""

import argparse
import copy
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import trimbre
from trimbre.benchmark.latency_tables import machine
from trimbre.benchmark.timing import times_faster
from trimbre.config import BatchConfig, DistillationConfig, GateConfig, PruneConfig, RecoveryConfig
from trimbre.data.batches import Batch, training_batches
from trimbre.data.cuts import read_cuts
from trimbre.evaluation.compare_runs import CONTROL, Comparison, Run
from trimbre.evaluation.evaluate import evaluate_sets
from trimbre.files import write_json
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.loading import Recogniser, load
from trimbre.pruning.methods.at_random import uniform_plan
from trimbre.pruning.pipeline import target_of
from trimbre.pruning.surgery import cut
from trimbre.pruning.targets import ModelCosts
from trimbre.report.comparison import write_comparison
from trimbre.report.terminal.comparison import comparison
from trimbre.training.distillation import Distiller
from trimbre.training.from_scratch import initialise
from trimbre.training.loop import accelerator_for
from trimbre.training.pseudo_labels import PseudoLabeller
from trimbre.training.recovery import Training, train_on

TASK_ALONE = DistillationConfig(posterior_weight=0.0, layer_weight=0.0)
"""The task loss, without distillation."""

KEPT = (
    "options",
    "removed",
    "dense",
    "widths",
    "stages",
    "times_faster",
    "audio_seconds",
    "missed",
    "units_cut_as_seeded",
)
"""Keys of a run's report that a cell's file keeps."""


@dataclass(frozen=True)
class Entry:
    """A configuration to compare."""

    options: PruneConfig
    seeds: int = 1
    kind: str = "prune"
    """`prune`; `control`: fine-tune the dense model; `scratch`: train a small model of the same cost from scratch."""


def methods(steps: int, learn: int) -> dict[str, Entry]:
    """Every method by name, for `steps` steps in all; methods that train gates take `learn` of them for that."""
    learned = in_steps(PruneConfig(method="l0"), learn, steps - learn)
    at_once = in_steps(PruneConfig(method="l0"), 0, steps)
    no_refit = replace(at_once.recovery, refit=False)
    return {
        CONTROL: Entry(at_once, seeds=3, kind="control"),
        "l0": Entry(learned, seeds=3),
        "curvature": Entry(replace(at_once, method="curvature"), seeds=3),
        "curvature, no refit": Entry(replace(at_once, method="curvature", recovery=no_refit), seeds=3),
        "taylor": Entry(replace(at_once, method="taylor"), seeds=3),
        "taylor-iterative": Entry(replace(learned, method="taylor-iterative"), seeds=3),
        "l0, no distillation": Entry(replace(learned, distillation=TASK_ALONE)),
        "l0, seed alone": Entry(at_once),
        "l0, gates alike": Entry(replace(learned, gates=replace(learned.gates, spread=0.0))),
        "l0, gates sampled": Entry(replace(learned, gates=replace(learned.gates, sampled=True))),
        "l0, through the recovery": Entry(through_the_recovery(steps)),
        "modules": Entry(replace(learned, method="modules")),
        "llm-pruner": Entry(replace(at_once, method="llm-pruner")),
        "llm-pruner-vector": Entry(replace(at_once, method="llm-pruner-vector")),
        "flap": Entry(replace(at_once, method="flap")),
        "flap, no refit": Entry(replace(at_once, method="flap", recovery=no_refit)),
        "wanda": Entry(replace(at_once, method="wanda")),
        "minitron": Entry(replace(at_once, method="minitron")),
        "activation": Entry(replace(at_once, method="activation")),
        "magnitude": Entry(replace(at_once, method="magnitude")),
        "shortgpt": Entry(replace(at_once, method="shortgpt")),
        "layers": Entry(replace(at_once, method="layers")),
        "random": Entry(replace(at_once, method="random")),
        "DPHuBERT": Entry(dphubert(steps)),
        "small from scratch": Entry(replace(at_once, distillation=TASK_ALONE), kind="scratch"),
        "small from scratch, distilled": Entry(at_once, kind="scratch"),
    }


def in_steps(config: PruneConfig, learn: int, recover: int) -> PruneConfig:
    """The config with `learn` steps of gate training and `recover` steps of recovery."""
    return replace(config, gates=replace(config.gates, steps=learn), recovery=replace(config.recovery, steps=recover))


def through_the_recovery(steps: int) -> PruneConfig:
    """Gates in the order of `curvature`, at the target after a tenth of the steps and learned for all but the last."""
    config = in_steps(PruneConfig(method="l0"), steps - steps // 10, steps // 10)
    return replace(config, gates=replace(config.gates, ramp=0.1))


def dphubert(steps: int) -> PruneConfig:
    """DPHuBERT's recipe (Peng et al. 2023): hidden states as the only loss, with its distance, layers and schedule.

    All gates start open. They are trained for two thirds of the steps, with a ramp over the first tenth of these; every
    fourth layer is matched; there is no refit. The size constraint is met exactly, not by ascent on multipliers.
    """
    learn = round(steps * 2 / 3)
    return PruneConfig(
        method="l0",
        gates=GateConfig(steps=learn, spread=0.0, sampled=True, ramp=0.1, rate=0.02),
        distillation=DistillationConfig(
            task_weight=0.0, posterior_weight=0.0, layer_distance="l1-cosine", match_every=4
        ),
        recovery=RecoveryConfig(steps=steps - learn, refit=False),
    )


def ablation(steps: int, learn: int) -> dict[str, Entry]:
    """The default recipe and that of L0, each with one option changed at a time."""
    default = in_steps(PruneConfig(), 0, steps)
    learned = in_steps(PruneConfig(method="l0"), learn, steps - learn)
    recovery = default.recovery

    def distilled(**terms: Any) -> PruneConfig:
        return replace(default, distillation=DistillationConfig(**terms))

    def gates(**options: Any) -> PruneConfig:
        return replace(learned, gates=replace(learned.gates, **options))

    def learned_for(learn: int) -> PruneConfig:
        return in_steps(learned, learn, steps - learn)

    varied = {
        "default": default,
        "no task": distilled(task_weight=0.0),
        "no posteriors": distilled(posterior_weight=0.0),
        "no hidden states": distilled(layer_weight=0.0),
        "task alone": replace(default, distillation=TASK_ALONE),
        "hidden states, weight 4": distilled(layer_weight=4.0),
        "every fourth layer": distilled(match_every=4),
        "no refit": replace(default, recovery=replace(recovery, refit=False)),
        "scored on a quarter": replace(default, calibration_batches=default.calibration_batches // 4),
        "refitted on a quarter": replace(
            default, recovery=replace(recovery, refit_batches=recovery.refit_batches // 4)
        ),
        "refitted on four times": replace(
            default, recovery=replace(recovery, refit_batches=recovery.refit_batches * 4)
        ),
        "augmented": replace(default, batches=BatchConfig()),
        "recovery rate 2.5e-4": replace(default, recovery=replace(recovery, rate=2.5e-4)),
        "recovery rate 1e-3": replace(default, recovery=replace(recovery, rate=1e-3)),
        "widths in eights": replace(default, multiple_of=8),
        "convolutions protected": replace(default, protect=("conv",)),
        "l0": learned,
        "l0, gates alike": gates(spread=0.0),
        "l0, gates 4 apart": gates(spread=4.0),
        "l0, gates 20 apart": gates(spread=20.0),
        "l0, gates sampled": gates(sampled=True),
        "l0, gate rate 0.02": gates(rate=0.02),
        "l0, gate rate 0.1": gates(rate=0.1),
        "l0, ramp 0.3": gates(ramp=0.3),
        "l0, ramp 1": gates(ramp=1.0),
        "l0, learning half as long": learned_for(learn // 2),
        "l0, learning twice as long": learned_for(2 * learn),
    }
    return {name: Entry(options) for name, options in varied.items()}


ENTRIES = {"methods": methods, "ablation": ablation}


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
    """The cells of a testbed, the first seed of all entries before the second."""
    known = ENTRIES[testbed["entries"]](testbed["steps"], testbed["learn_steps"])
    known = {name: entry for name, entry in known.items() if name in testbed.get("only", known)}
    for seed in range(min(max(entry.seeds for entry in known.values()), testbed.get("seeds", sys.maxsize))):
        for share in testbed["shares"]:
            for name, entry in known.items():
                if seed < entry.seeds and not (name == CONTROL and share != testbed["shares"][0]):
                    yield Cell(name, share, seed, entry)


def run(cell: Cell, testbed: Mapping[str, Any]) -> dict[str, Any]:
    """Make a cell's model, evaluate it and return its report."""
    config = cell.entry.options
    gates, recovery, distillation = config.gates, config.recovery, config.distillation
    if "rate" in testbed:
        gates = replace(gates, weight_rate=testbed["rate"])
        recovery = replace(recovery, rate=recovery.rate or testbed["rate"])
    if "batches" in testbed:
        config = replace(config, calibration_batches=testbed["batches"])
        recovery = replace(recovery, refit_batches=testbed["batches"])
    layers = testbed.get("layer_weight") if distillation.layer_weight is None else distillation.layer_weight
    config = replace(
        config,
        remove=cell.share,
        of=testbed.get("of", "blocks"),
        seed=cell.seed,
        gates=gates,
        recovery=recovery,
        distillation=replace(distillation, text=testbed.get("text", "transcripts"), layer_weight=layers),
        batches=replace(config.batches, max_duration=testbed["max_duration"]),
    )
    if cell.entry.kind == "prune":
        out = Path("runs/methods") / testbed["name"] / cell.file.removesuffix(".json")
        unfinished = out.with_name(f"{out.name}.run").exists()
        shutil.rmtree(out, ignore_errors=True)
        result = trimbre.prune(testbed["model"], train=testbed["train"], out=out, config=config, resume=unfinished)
        recogniser, report = Recogniser(result.model, result.processor), result.report
    else:
        recogniser, report = _trained(cell, testbed, config)
    evaluation = evaluate_sets(
        recogniser=recogniser,
        name=testbed["main"],
        data=testbed["judged"]["dev"],
        watch=testbed["judged"]["watch"],
        normalize=testbed["normalize"],
    )
    return {
        "name": cell.name,
        **{key: report[key] for key in KEPT if key in report},
        "evaluation": evaluation.to_json(),
        "machine": machine(),
        "torch": torch.__version__,
    }


def _trained(cell: Cell, testbed: Mapping[str, Any], config: PruneConfig) -> tuple[Recogniser, dict[str, Any]]:
    """A model without pruning: the dense one, or a randomly initialised one of the target's cost, trained."""
    teacher, processor = load(testbed["model"])
    cuts, accelerator = read_cuts(testbed["train"]), accelerator_for("auto")
    anatomy = anatomy_of(teacher)
    costs = ModelCosts.of(teacher, anatomy, processor)
    model: Any = copy.deepcopy(teacher)
    removed = {name: dict.fromkeys(costs.scopes, 0.0) for name in ("params", "macs")}
    if cell.entry.kind == "scratch":
        plan = uniform_plan(target_of(anatomy, costs, config), seed=config.seed)
        model, removed = cut(model, plan), costs.shares(plan)
        torch.manual_seed(config.seed)
        initialise(model)
    label = PseudoLabeller(teacher, processor, accelerator.autocast) if head_of(teacher).reads_text else None

    def stream(start: int) -> Iterator[Batch]:
        batches = training_batches(
            cuts,
            processor=processor,
            options=config.batches,
            seed=config.seed,
            start=start,
            transcripts=config.distillation.text == "transcripts",
        )
        return map(label, batches) if label else batches

    training = Training(
        batches=stream,
        recorded=stream,
        accelerator=accelerator,
        seed=config.seed,
    )
    fitted = train_on(
        model,
        Distiller(teacher, config.distillation),
        stage=cell.entry.kind,
        steps=config.recovery.steps,
        options=config.recovery,
        training=training,
    )
    recogniser = Recogniser(model.eval(), processor)
    report = {
        "options": asdict(config),
        "removed": removed,
        "stages": {cell.entry.kind: fitted.to_json()},
        "times_faster": asdict(times_faster(recogniser, Recogniser(teacher, processor))),
    }
    return recogniser, report


def main() -> int:
    """Run cells, or make the table of the finished ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("verb", choices=["list", "run", "table"])
    parser.add_argument("testbed", type=Path, nargs="?", default=Path("benchmarks/methods/conformer.json"))
    parser.add_argument("--only", nargs="*", help="titles of cells, such as 'taylor 50%% 0'")
    asked = parser.parse_args()
    place = asked.testbed.with_suffix("")
    testbed = json.loads(asked.testbed.read_text()) | {"name": place.name}
    if asked.verb == "table":
        make_table(place)
        return 0
    for cell in cells(testbed):
        done = (place / cell.file).is_file()
        if asked.only and cell.title not in asked.only:
            continue
        if asked.verb == "list":
            print(("done  " if done else "      ") + cell.title)
        elif not done:
            print(f"== {cell.title}", file=sys.stderr, flush=True)
            place.mkdir(exist_ok=True)
            write_json(place / cell.file, run(cell, testbed))
    return 0


def make_table(place: Path) -> None:
    """Compare the finished cells of a testbed; writes the comparison beside them."""
    found = Comparison.of([Run.read(file) for file in sorted(place.glob("*.json"))])
    write_comparison(found, place.with_name(f"{place.name}-table"))
    Console().print(*comparison(found.to_json()))


if __name__ == "__main__":
    sys.exit(main())
