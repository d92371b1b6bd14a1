"""Whole runs, from names of files to files: what the commands do, also for Python."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from trimbre.anatomy import anatomy_of
from trimbre.checkpoint import load_plan, save
from trimbre.data.batches import BatchOptions, training_batches
from trimbre.data.cuts import read_cuts
from trimbre.errors import UserError
from trimbre.evaluation import EvaluationReport, evaluate, evaluate_sets
from trimbre.files import write_json
from trimbre.loop import accelerator_for
from trimbre.models import Recogniser, load
from trimbre.pruning import Pruned, PruneOptions, Training, prune_model
from trimbre.report import model_card
from trimbre.target import Ledger, describe, shortfall
from trimbre.verification import verify_cutting


def prune(
    *,
    model: str,
    train: str,
    dev: str | None,
    out: Path,
    options: PruneOptions,
    batches: BatchOptions | None = None,
    watch: Mapping[str, str] | None = None,
    precision: str = "auto",
    validate_every: int = 100,
    save_every: int = 100,
    resume: bool = False,
    margin_percent: float = 10.0,
) -> dict[str, Any]:
    """Prune a recogniser and write what is left to `out`, with its plan, its model card and a report.

    Args:
        model: directory or hub name of the recogniser, which is its own teacher.
        train: cuts to learn from; where they have no transcripts the teacher alone teaches.
        dev: cuts with transcripts to judge by; None judges nothing.
        watch: speech unlike the training audio, by name, to judge by as well.
        resume: go on with the run that was stopped; its options are kept.

    Returns:
        The report, also written to `out/prune.json`.

    Raises:
        UserError: bad input, or a target that cannot be reached.
    """
    run = prepare_run(out, {"model": model, "train": train, "options": asdict(options)}, resume=resume)
    batches = batches or BatchOptions()
    teacher, processor = load(model)
    cuts = read_cuts(train)
    dev_cuts = None if dev is None else read_cuts(dev)

    def judge(student: PreTrainedModel) -> Mapping[str, float]:
        assert dev_cuts is not None
        found = evaluate(model=student, processor=processor, data=dev_cuts, normalize=batches.normalize, bfloat16=True)
        return {"wer": found.wer}

    accelerator = accelerator_for(precision)
    training = Training(
        batches=lambda start: training_batches(
            cuts,
            processor=processor,
            options=batches,
            seed=options.seed,
            start=start,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        ),
        accelerator=accelerator,
        seed=options.seed,
        run=run,
        save_every=save_every,
        validate=None if dev_cuts is None else judge,
        validate_every=validate_every,
    )
    pruned = prune_model(teacher, processor, options=options, training=training)
    evaluation = None
    if dev is not None:
        evaluation = evaluate_sets(
            recogniser=Recogniser(pruned.model, processor),
            against=Recogniser(teacher, processor),
            dev=dev,
            watch=watch,
            normalize=batches.normalize,
            margin_percent=margin_percent,
        )
    report = report_of(model, options, pruned, evaluation)
    plan = (earlier := load_plan(model)) and earlier.then(pruned.plan)
    save(
        pruned.model,
        processor,
        out,
        plan=plan or pruned.plan,
        card=model_card(report),
        extra={"prune.json": json.dumps(report, indent=2) + "\n"},
    )
    shutil.rmtree(run)
    return report


def report_of(model: str, options: PruneOptions, pruned: Pruned, evaluation: EvaluationReport | None) -> dict[str, Any]:
    """All that a run did, as plain data."""
    budgets = pruned.ledger.asked(options.target)
    return {
        "model": model,
        "options": asdict(options),
        "removed": pruned.ledger.shares(pruned.plan),
        "dense": pruned.ledger.dense(),
        "missed": shortfall(options.target, budgets, pruned.plan),
        "expected_when_learned": dict(zip([budget.name for budget in budgets], pruned.expected, strict=True)),
        "units_moved_by_search": pruned.moved,
        "cut_equals_gated_within": pruned.equality,
        "audio_seconds": sum(stage.audio_seconds for stage in pruned.fits.values()),
        "stages": {name: stage.to_json() for name, stage in pruned.fits.items()},
        "evaluation": evaluation and evaluation.to_json(),
        "command": " ".join(["trimbre", *sys.argv[1:]]) if sys.argv[0].endswith("trimbre") else "trimbre.prune(...)",
    }


def prepare_run(out: Path, settings: Mapping[str, Any], *, resume: bool) -> Path:
    """The folder beside `out` where a run keeps its state; what it was asked is noted there.

    Raises:
        UserError: `out` exists, another run is under way there, or there is none to resume.
    """
    run = out.with_name(f"{out.name}.run")
    note = run / "settings.json"
    asked = json.loads(json.dumps(settings))
    if out.exists():
        raise UserError(f"--out {out} already exists: name another folder or remove it")
    if note.is_file():
        before = json.loads(note.read_text())
        if not resume:
            raise UserError(f"--out {out} has an unfinished run in {run}: add --resume to go on, or remove that folder")
        odd = next((key for key in asked if asked[key] != before.get(key)), None)
        if odd is not None:
            raise UserError(f"--resume: the run in {run} was started with another {odd}: give the same command again")
    elif resume:
        raise UserError(f"--resume: there is no unfinished run for --out {out}: leave --resume out to start one")
    else:
        write_json(note, asked)
    return run


def inspect(*, model: str, verify: bool = False) -> dict[str, Any]:
    """What can be cut from a recogniser and what each kind weighs.

    Args:
        verify: cut it by random plans too, and compare with the same model behind gates.

    Returns:
        Plain data; with `verify`, the largest relative distance found as `masked_equals_sliced_within`.
    """
    recogniser, processor = load(model)
    anatomy = anatomy_of(recogniser)
    found = {"model": model, "class": type(recogniser).__name__} | describe(
        Ledger.of(recogniser, anatomy, processor), anatomy
    )
    if verify:
        found["masked_equals_sliced_within"] = verify_cutting(recogniser, processor)
    return found
