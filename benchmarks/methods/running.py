"""Running a cell: make its model, evaluate it and report on both."""

import copy
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from cells import Cell
from entries import Entry
from low_rank import factorise

import trimbre
from trimbre.benchmark.latency_tables import machine
from trimbre.benchmark.timing import times_faster
from trimbre.config import PruneConfig
from trimbre.data.batches import Batch, training_batches
from trimbre.data.cuts import read_cuts
from trimbre.data.language import Languages
from trimbre.evaluation.evaluate import evaluate_sets
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.loading import Recogniser, load
from trimbre.pruning.methods.at_random import uniform_plan
from trimbre.pruning.pipeline import target_of
from trimbre.pruning.surgery import cut
from trimbre.pruning.targets import ModelCosts
from trimbre.training.distillation import Distiller
from trimbre.training.from_scratch import initialise
from trimbre.training.loop import accelerator_for
from trimbre.training.pseudo_labels import PseudoLabeller
from trimbre.training.recovery import Training, train_on
from trimbre.training.resume import run_folder

KEPT = (
    "options",
    "removed",
    "dense",
    "widths",
    "ranks",
    "stages",
    "times_faster",
    "audio_seconds",
    "missed",
    "units_cut_as_seeded",
)
"""Keys of a run's report that a cell's file keeps."""


def run(cell: Cell, testbed: Mapping[str, Any]) -> dict[str, Any]:
    """Make a cell's model, evaluate it and return its report."""
    config = config_of(cell, testbed)
    if cell.entry.kind == "prune":
        out = Path("runs/methods") / testbed["name"] / cell.file.removesuffix(".json")
        unfinished = run_folder(out).exists()
        shutil.rmtree(out, ignore_errors=True)
        result = trimbre.prune(testbed["model"], train=testbed["train"], out=out, config=config, resume=unfinished)
        recogniser, report = Recogniser(result.model, result.processor), result.report
    else:
        recogniser, report = _trained(cell.entry, testbed, config)
    evaluation = evaluate_sets(
        recogniser=recogniser,
        name=testbed["main"],
        data=testbed["judged"]["dev"],
        watch=testbed["judged"]["watch"],
        normalize=testbed["normalize"],
        language=testbed.get("language"),
    )
    return {
        "name": cell.name,
        "train": testbed["train"],
        **{key: report[key] for key in KEPT if key in report},
        "evaluation": evaluation.to_json(),
        "machine": machine(),
        "torch": torch.__version__,
    }


def config_of(cell: Cell, testbed: Mapping[str, Any]) -> PruneConfig:
    """The options of a cell: those of its entry, with what its testbed states."""
    config = cell.entry.options
    gates, recovery, distillation = config.gates, config.recovery, config.distillation
    if "rate" in testbed:
        gates = replace(gates, weight_rate=testbed["rate"])
        recovery = replace(recovery, rate=recovery.rate or testbed["rate"])
    if "batches" in testbed:
        config = replace(config, calibration_batches=testbed["batches"])
        recovery = replace(recovery, refit_batches=testbed["batches"])
    if cell.entry.kind == "scratch":
        recovery = replace(recovery, steps=testbed.get("scratch_steps", recovery.steps))
    layers = testbed.get("layer_weight") if distillation.layer_weight is None else distillation.layer_weight
    return replace(
        config,
        remove=cell.share,
        of=testbed.get("of", "blocks"),
        seed=cell.seed,
        gates=gates,
        recovery=recovery,
        distillation=replace(distillation, text=testbed.get("text", "transcripts"), layer_weight=layers),
        batches=replace(config.batches, max_duration=testbed["max_duration"], language=testbed.get("language")),
    )


def _trained(entry: Entry, testbed: Mapping[str, Any], config: PruneConfig) -> tuple[Recogniser, dict[str, Any]]:
    """A model without pruning, trained: the dense one, a small one from scratch, or one with factored projections.

    What lies outside the part that a share is of is neither initialised nor trained where pruning would not train it.
    """
    accelerator = accelerator_for("auto")
    teacher, processor = load(testbed["model"])
    teacher.to(accelerator.device)
    anatomy = anatomy_of(teacher)
    costs = ModelCosts.of(teacher, anatomy, processor)
    stream = _stream(Recogniser(teacher, processor), testbed, config, accelerator)
    untouched = anatomy.untouched.get(config.of, ())
    model: Any = copy.deepcopy(teacher)
    made: dict[str, Any] = {"removed": {name: dict.fromkeys(costs.scopes, 0.0) for name in ("params", "macs")}}
    if entry.kind == "scratch":
        plan = uniform_plan(target_of(anatomy, costs, config), seed=config.seed)
        model, made["removed"] = cut(model, plan), costs.shares(plan)
        outside = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith(untouched)}
        torch.manual_seed(config.seed)
        initialise(model)
        model.load_state_dict(outside, strict=False)
    elif entry.kind == "low rank":
        calibration = islice((batch.to(accelerator.device) for batch in stream(0)), config.calibration_batches)
        made["ranks"], made["removed"] = factorise(model, processor, config=config, batches=calibration)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(untouched))
    fitted = train_on(
        model,
        Distiller(teacher, config.distillation),
        stage=entry.kind,
        steps=config.recovery.steps,
        options=config.recovery,
        training=Training(batches=stream, recorded=stream, accelerator=accelerator, seed=config.seed),
    )
    recogniser = Recogniser(model.eval(), processor)
    report = {
        "options": asdict(config),
        **made,
        "dense": costs.dense(),
        "stages": {entry.kind: fitted.to_json()},
        "times_faster": asdict(times_faster(recogniser, Recogniser(teacher, processor))),
    }
    return recogniser, report


def _stream(teacher: Recogniser, testbed: Mapping[str, Any], config: PruneConfig, accelerator: Any) -> Any:
    """Number of the first batch -> endless training batches, as pruning trains on."""
    cuts = read_cuts(testbed["train"])
    labelled = head_of(teacher.model).reads_text
    label = PseudoLabeller(*teacher, accelerator.autocast) if labelled else None

    def stream(start: int) -> Iterator[Batch]:
        batches = training_batches(
            cuts,
            processor=teacher.processor,
            options=config.batches,
            seed=config.seed,
            start=start,
            transcripts=config.distillation.text == "transcripts",
            languages=Languages.of(config.batches.language, teacher),
        )
        return map(label, batches) if label else batches

    return stream
