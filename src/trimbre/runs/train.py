"""Training runs: from a config file or a checkpoint to a trained model with its report."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.config import TrainConfig
from trimbre.data.check import check_training_data, refuse_unjudgeable, refuse_unreadable
from trimbre.data.cuts import CutsLike
from trimbre.data.language import Languages
from trimbre.data.source import NamedCuts, resolve_cuts
from trimbre.errors import OptionError, UserError
from trimbre.models.families.registry import head_of
from trimbre.models.loading import Recogniser
from trimbre.models.source import ModelLike, resolve_model
from trimbre.runs.results import TrainResult
from trimbre.runs.settings import begin_run, command_of, out_folder, step_size, unreadable_clips
from trimbre.training.distributed import gather_unreadable, on_main_process
from trimbre.training.from_scratch import best_of, build, replace_vocabulary, train_model
from trimbre.training.loop import accelerator_for


def train_run(
    model: ModelLike,
    processor: ProcessorMixin | None,
    *,
    train: CutsLike,
    dev: CutsLike,
    out: str | Path | None,
    config: TrainConfig,
    half: bool,
    allow_outside: bool,
    resume: bool,
    device: str,
) -> TrainResult:
    """Train a recogniser; `trimbre.train` describes the arguments."""
    folder = out_folder(out, resume=resume, model=model)
    data = resolve_cuts("train", train, allow_outside=allow_outside, repeated=True)
    judged_on = resolve_cuts("dev", dev, allow_outside=allow_outside)
    accelerator = accelerator_for(config.precision, device)
    name, start, earlier = _start(model, processor, data, config, accelerator.device)
    normalize = config.batches.normalize
    languages = Languages.of(config.batches.language, start)
    checked = check_training_data(
        data.cuts,
        name=data.name,
        processor=start.processor,
        normalize=normalize,
        languages=languages,
        longest=config.batches.longest,
    )
    if checked.transcribed < checked.utterances:
        raise OptionError(
            "train",
            data.name,
            f"{checked.utterances - checked.transcribed} utterances have no transcript to train on: leave them out "
            "(pruning takes them, since there the dense model is the teacher)",
        )
    refuse_unjudgeable(
        judged_on.cuts,
        option="dev",
        name=judged_on.name,
        processor=start.processor,
        normalize=normalize,
        languages=languages,
    )
    for each in (data, judged_on):
        refuse_unreadable(each.cuts, name=each.name)
    given = {"model": name, "train": data.name, "dev": judged_on.name, "options": asdict(config)}
    settings = given | {"processes": accelerator.num_processes}
    run = begin_run(folder, settings, resume=resume, accelerator=accelerator)
    tolerance = unreadable_clips(checked.utterances, data.name, run, accelerator)
    trained, fitted = train_model(
        start,
        cuts=data.cuts,
        dev=judged_on.cuts,
        options=config,
        accelerator=accelerator,
        tolerance=tolerance,
        run=run,
    )
    report = {
        **given,
        "language": languages.text or checked.language,
        "data": checked.to_json() | {"unreadable": gather_unreadable(tolerance)},
        "best": best_of(fitted),
        **step_size(accelerator, config.batches),
        **fitted.to_json(),
        "command": command_of("train"),
        "earlier": earlier,
    }
    result = TrainResult(trained, start.processor, report)
    if folder is not None and run is not None:

        def finish() -> None:
            result.save(folder, half=half)
            shutil.rmtree(run)

        on_main_process(accelerator, finish)
    return result


def _start(
    model: ModelLike,
    processor: ProcessorMixin | None,
    data: NamedCuts,
    config: TrainConfig,
    device: torch.device,
) -> tuple[str, Recogniser, list[dict[str, Any]]]:
    """Name of what training starts from, the recogniser itself, and the stages that it was trained in before."""
    if isinstance(model, str | Path) and str(model).endswith(".json"):
        return str(model), build(Path(model), data.cuts, config), []
    source = resolve_model(model, processor, device=device, own=True)
    _refuse_decoder(source.recogniser.model, source.name)
    start = replace_vocabulary(source.recogniser, data.cuts, config) if config.vocab_size else source.recogniser
    return source.name, start, _earlier_stages(source.path)


def _refuse_decoder(model: PreTrainedModel, name: str) -> None:
    """Raise UserError for a model that the training loop has no loss for."""
    if not head_of(model).trains:
        raise UserError(
            f"{name} is a {type(model).__name__}, which cannot be trained here: give a model with a CTC head"
        )


def _earlier_stages(checkpoint: Path | None) -> list[dict[str, Any]]:
    """What the stages of training took that a checkpoint went through, first to last."""
    noted = None if checkpoint is None else checkpoint / "train.json"
    if noted is None or not noted.is_file():
        return []
    last = json.loads(noted.read_text())
    kept = ("command", "steps", "audio_seconds", "minutes", "best")
    return [*last.get("earlier", []), {name: last[name] for name in kept}]
