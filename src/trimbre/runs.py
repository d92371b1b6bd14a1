"""Whole runs, from names of files to files: what `trimbre train` and `trimbre prune` do, also for Python."""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel

from trimbre.benchmark.latency_tables import by_the_clock, table_for
from trimbre.benchmark.timing import times_faster
from trimbre.config import AugmentConfig, BatchConfig, PruneConfig, TrainConfig
from trimbre.costs.latency import LatencyTable
from trimbre.data.batches import Batch, training_batches
from trimbre.data.check import UnreadableClips, check_training_data, refuse_unjudgeable
from trimbre.data.cuts import read_cuts
from trimbre.data.windows import windows_in
from trimbre.errors import UserError
from trimbre.evaluation.evaluate import evaluate_sets, refuse_name, validation_wer
from trimbre.models.checkpoint import load_plan, save
from trimbre.models.inputs import window_of
from trimbre.models.loading import Recogniser, load
from trimbre.pruning.pipeline import Pruned, preview, prune_model, resolve_target
from trimbre.pruning.targets import missed_time
from trimbre.report.model_card import model_card
from trimbre.training.distributed import gather_unreadable, main_process_threads
from trimbre.training.from_scratch import best_of, build, replace_vocabulary, train_model
from trimbre.training.loop import accelerator_for
from trimbre.training.pseudo_labels import PseudoLabeller
from trimbre.training.recovery import Training
from trimbre.training.resume import prepare_run, run_folder


def train(
    *,
    model: str,
    train: str,
    dev: str,
    out: Path,
    options: TrainConfig,
    allow_outside: bool = False,
    half: bool = False,
    resume: bool = False,
) -> dict[str, Any]:
    """Train a recogniser and write it to `out`.

    Args:
        model: a config file (JSON) to start from nothing, or a checkpoint to train on.
        train: cuts with transcripts; so is `dev`.
        allow_outside: let manifests name audio outside their own folder.
        half: store the weights as float16.
        resume: go on with the run that was stopped.

    Returns:
        What the training took and its curve on dev, also written to `out/train.json`.

    Raises:
        UserError: bad input.
    """
    cuts, dev_cuts = (read_cuts(place, allow_outside=allow_outside) for place in (train, dev))
    accelerator = accelerator_for(options.precision)
    given = {
        "model": model,
        "train": train,
        "dev": dev,
        "options": asdict(options),
        "processes": accelerator.num_processes,
    }
    start = build(Path(model), cuts, options) if model.endswith(".json") else load(model)
    _refuse_decoder(start.model, model)
    if options.vocab_size and not model.endswith(".json"):
        start = replace_vocabulary(start, cuts, options)
    checked = check_training_data(cuts, name=train, processor=start.processor, normalize=options.batches.normalize)
    if checked.transcribed < checked.utterances:
        raise UserError(
            f"--train {train} has {checked.utterances - checked.transcribed} utterances without transcripts, from "
            "which there is nothing to learn: leave them out (trimbre prune takes them, for there a teacher teaches)"
        )
    normalize = options.batches.normalize
    refuse_unjudgeable(dev_cuts, name=f"--dev {dev}", processor=start.processor, normalize=normalize)
    run = _begin(out, given, resume=resume, accelerator=accelerator)
    tolerance = UnreadableClips(checked.utterances, train, kept=run / f"unreadable-{accelerator.process_index}.json")
    trained, result = train_model(
        start, cuts=cuts, dev=dev_cuts, options=options, accelerator=accelerator, tolerance=tolerance, run=run
    )
    report = {
        "model": model,
        "train": train,
        "dev": dev,
        "options": asdict(options),
        "data": checked.to_json() | {"unreadable": gather_unreadable(tolerance)},
        "best": best_of(result),
        **_together(accelerator, options.batches),
        **result.to_json(),
        "command": _command("train"),
        "earlier": _trained_before(model),
    }
    if accelerator.is_main_process:
        save(trained, start.processor, out, half=half, extra={"train.json": json.dumps(report, indent=2) + "\n"})
        shutil.rmtree(run)
    accelerator.wait_for_everyone()
    return report


def _refuse_decoder(model: PreTrainedModel, name: str) -> None:
    """Raise UserError for a model that no training here is made for."""
    if model.config.is_encoder_decoder:
        raise UserError(
            f"{name} is a {type(model).__name__}, which trimbre prune takes, but trimbre train does not: give a model "
            "with a CTC head"
        )


def _begin(out: Path, settings: Mapping[str, Any], *, resume: bool, accelerator: Accelerator) -> Path:
    """The folder of a run's state, which the first process prepares while the others wait."""
    if accelerator.is_main_process:
        prepare_run(out, settings, resume=resume)
    accelerator.wait_for_everyone()
    return run_folder(out)


def _together(accelerator: Accelerator, batches: BatchConfig, window: float | None = None) -> dict[str, Any]:
    """How many processes share a run, and the seconds of audio in one of its steps, at most; `window`: `window_of`."""
    processes = accelerator.num_processes
    batch = batches.max_duration if window is None else window * windows_in(batches.max_duration, window)
    return {"processes": processes, "step_seconds": batch * batches.accumulate * processes}


def _trained_before(model: str) -> list[dict[str, Any]]:
    """What the stages of training took that a checkpoint has behind it, first to last."""
    noted = Path(model) / "train.json"
    if not noted.is_file():
        return []
    last = json.loads(noted.read_text())
    kept = ("command", "steps", "audio_seconds", "minutes", "best")
    return [*last.get("earlier", []), {name: last[name] for name in kept}]


def prune(
    *,
    model: str,
    train: str,
    out: Path,
    options: PruneConfig,
    dev: str | None = None,
    watch: Mapping[str, str] | None = None,
    margin_percent: float = 10.0,
    allow_outside: bool = False,
    dry_run: bool = False,
    resume: bool = False,
) -> dict[str, Any]:
    """Prune a recogniser and write what is left to `out`, with its plan, its model card and a report.

    Args:
        model: directory or hub name of the recogniser, which is its own teacher.
        train: cuts to learn from; where they have no transcripts the teacher alone teaches.
        dev: cuts with transcripts to judge by; None judges nothing.
        watch: speech unlike the training audio, by name, to judge by as well.
        margin_percent: how much worse, relative to the other's error rate, may still be called "not worse".
        allow_outside: let manifests name audio outside their own folder.
        dry_run: check all that was given and say what would be removed; nothing is written.
        resume: go on with the run that was stopped.

    Returns:
        The report, also written to `out/prune.json`; `missed` is None where the target was met.

    Raises:
        UserError: bad input, or a target that cannot be reached.
    """
    batches = options.batches
    accelerator = accelerator_for(options.precision)
    if options.low_memory and accelerator.mixed_precision != "bf16":
        raise UserError(
            "--low-memory holds the teacher in bfloat16, which --precision fp32 cannot multiply: give --precision bf16"
        )
    teacher, processor = load(model)
    read = partial(read_cuts, allow_outside=allow_outside)
    cuts = read(train)
    judged_on = None if dev is None else read(dev)
    watched = {name: read(place) for name, place in (watch or {}).items()}
    judges = {} if judged_on is None else {f"--dev {dev}": judged_on}
    judges |= {f"--watch {name}={(watch or {})[name]}": judged for name, judged in watched.items()}
    for name, judged in judges.items():
        refuse_unjudgeable(judged, name=name, processor=processor, normalize=batches.normalize)
    refuse_name(watched, "dev")
    transcripts = options.distillation.text == "transcripts"
    checked = check_training_data(
        cuts, name=train, processor=processor, normalize=batches.normalize, transcripts=transcripts
    )
    table = None
    if options.target.budget == "latency":
        with accelerator.main_process_first():  # what it measures is kept, and the others read that
            table = _table(Recogniser(teacher, processor), model, options, run_folder(out) if resume else None)
    asked = options
    # Both refuse before a run is begun.
    options = resolve_target(Recogniser(teacher, processor), options, table)
    ahead = preview(Recogniser(teacher, processor), options, table)
    if checked.transcribed < checked.utterances and not options.distillation.from_teacher:
        raise UserError(
            f"--train {train} has audio without transcripts, from which only the teacher can teach: "
            "give --posterior-weight or --layer-weight above 0"
        )
    together = _together(accelerator, batches, window_of(processor))
    if dry_run:
        return {"model": model, "data": checked.to_json(), **together, **ahead}
    given = {
        "model": model,
        "train": train,
        "options": asdict(asked),
        **({"table": table.to_json()} if table else {}),
        "processes": accelerator.num_processes,
    }
    run = _begin(out, given, resume=resume, accelerator=accelerator)
    tolerance = UnreadableClips(checked.utterances, train, kept=run / f"unreadable-{accelerator.process_index}.json")

    def judge(student: PreTrainedModel) -> Mapping[str, float]:
        assert judged_on is not None
        return {"wer": validation_wer(student, processor, judged_on, normalize=batches.normalize)}

    dictation = PseudoLabeller(teacher, processor, accelerator.autocast) if teacher.config.is_encoder_decoder else None

    def stream(start: int, augment: AugmentConfig) -> Iterator[Batch]:
        heard = training_batches(
            cuts,
            processor=processor,
            options=replace(batches, augment=augment),
            seed=options.seed,
            start=start,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            tolerance=tolerance,
            transcripts=transcripts,
        )
        return map(dictation, heard) if dictation else heard

    training = Training(
        batches=partial(stream, augment=batches.augment),
        recorded=partial(stream, augment=AugmentConfig.none()),
        accelerator=accelerator,
        seed=options.seed,
        accumulate=batches.accumulate,
        run=run,
        save_every=options.save_every,
        validate=None if judged_on is None else judge,
        validate_every=options.validate_every,
    )
    pruned = prune_model(teacher, processor, config=options, training=training, table=table)
    evaluation = None
    if judged_on is not None and accelerator.is_main_process:
        with main_process_threads(accelerator):
            evaluation = evaluate_sets(
                recogniser=Recogniser(pruned.model, processor),
                against=Recogniser(pruned.control, processor) if pruned.control else load(model),
                dev=judged_on,
                watch=watched,
                normalize=batches.normalize,
                margin_percent=margin_percent,
            )
    faster = None
    if accelerator.is_main_process:  # alone: processes that take their time at once take each other's
        faster = times_faster(Recogniser(pruned.model, processor), Recogniser(teacher.float(), processor))
    (faster,) = broadcast_object_list([faster])
    told = pruned.to_json(options.target)
    if table is not None and accelerator.is_main_process:
        told["latency"] = _timed(load(model), pruned, asked.target.rtf)
        told["missed"] = told["missed"] or missed_time(told["latency"])
    report = {
        "model": model,
        "options": asdict(asked),
        **told,
        "evaluation": evaluation and evaluation.to_json(),
        "times_faster": asdict(faster),
        "auto_class": pruned.model._auto_class,
        "data": checked.to_json() | {"unreadable": gather_unreadable(tolerance)},
        **together,
        "command": _command("prune"),
    }
    earlier = load_plan(model)
    if accelerator.is_main_process:
        save(
            pruned.model,
            processor,
            out,
            plan=earlier.then(pruned.result.plan) if earlier else pruned.result.plan,
            card=model_card(report),
            extra={"prune.json": json.dumps(report, indent=2) + "\n"},
        )
        shutil.rmtree(run)
    accelerator.wait_for_everyone()
    return report


def _table(recogniser: Recogniser, name: str, options: PruneConfig, run: Path | None) -> LatencyTable:
    """The table of times that a run goes by; one that is resumed goes by the same."""
    noted = None if run is None else run / "settings.json"
    if noted is not None and noted.is_file() and (kept := json.loads(noted.read_text()).get("table")):
        return LatencyTable.from_json(kept)
    return table_for(*recogniser, name=name, options=options.latency)


def _timed(teacher: Recogniser, pruned: Pruned, rtf: float | None) -> dict[str, Any]:
    """What the table foretold of a pruned model and, where it speaks of this machine, what the clock says."""
    table, budget = pruned.costs.table, pruned.costs.budgets["latency", "model"]
    assert table is not None
    return {
        "where": pruned.costs.measured_in,
        "asked": rtf,
        "unpruned": budget.dense,
        "pruned": budget.cost.of(pruned.result.plan),
        "measured": by_the_clock(teacher, pruned.model, table),
        "table": table.to_json(),
    }


def _command(verb: str) -> str:
    """The command line that was typed, or the function that was called."""
    typed = Path(sys.argv[0]).name in ("trimbre", "__main__.py")
    return " ".join(["trimbre", *sys.argv[1:]]) if typed else f"trimbre.{verb}(...)"
