"""Everything that equality.py calls of Trimbre: a change of its API is followed here alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from trimbre.config import AugmentConfig, BatchConfig, DistillationConfig, GateConfig, PruneConfig, RecoveryConfig
from trimbre.data.audio import read_audio
from trimbre.data.batches import Batch, training_batches
from trimbre.data.cuts import read_cuts
from trimbre.inference.long_form import transcriber
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.loading import load
from trimbre.pruning.methods.base import PruningContext
from trimbre.pruning.pipeline import prune_model, target_of
from trimbre.pruning.targets import ModelCosts
from trimbre.training.distillation import Distiller
from trimbre.training.loop import accelerator_for
from trimbre.training.pseudo_labels import PseudoLabeller
from trimbre.training.recovery import Training, train_on
from trimbre.training.task_loss import transcript_loss


@dataclass(frozen=True)
class Request:
    """One pruning, in plain values; what is not said here is left at its default."""

    corpus: Path
    method: str = "curvature"
    remove: float = 0.5
    budget: str = "both"
    of: str = "blocks"
    gate_steps: int = 0
    refit: bool = False
    recovery_steps: int = 0
    precision: str = "fp32"
    low_memory: bool = False
    augment: bool = False
    accumulate: int = 1
    layer_distance: str = "squared"
    match_every: int = 1


def config_of(asked: Request) -> PruneConfig:
    """The config of a run."""
    return PruneConfig(
        remove=asked.remove,
        budget=asked.budget,
        of=asked.of,
        method=asked.method,
        calibration_batches=4,
        low_memory=asked.low_memory,
        gates=GateConfig(steps=asked.gate_steps),
        distillation=DistillationConfig(layer_distance=asked.layer_distance, match_every=asked.match_every),
        recovery=RecoveryConfig(steps=asked.recovery_steps, refit=asked.refit, refit_batches=3),
    )


def training_of(processor: Any, asked: Request) -> Training:
    """Data, device and seed of a run, as `trimbre.prune` sets them up."""
    batches = BatchConfig(max_duration=6.0, buckets=2, accumulate=asked.accumulate)

    def stream(start: int, augment: AugmentConfig) -> Iterator[Batch]:
        options = replace(batches, augment=augment)
        return training_batches(read_cuts(asked.corpus), processor=processor, options=options, seed=0, start=start)

    return Training(
        batches=partial(stream, augment=AugmentConfig() if asked.augment else AugmentConfig.none()),
        recorded=partial(stream, augment=AugmentConfig.none()),
        accelerator=accelerator_for(asked.precision),
        seed=0,
        accumulate=asked.accumulate,
    )


def with_texts(training: Training, teacher: Any, processor: Any) -> Training:
    """Training whose batches have the texts that a decoder reads, as the pipeline has it after its first step."""
    if not head_of(teacher).reads_text:
        return training
    label = PseudoLabeller(teacher, processor, training.accelerator.autocast)
    return replace(
        training,
        batches=lambda start: map(label, training.batches(start)),
        recorded=lambda start: map(label, training.recorded(start)),
    )


def loaded(path: Path) -> tuple[Any, Any]:
    """The model in a folder, in eval mode and float32, and its processor."""
    model, processor = load(path)
    return model, processor


def inputs_of(path: Path, asked: Request, count: int) -> list[Any]:
    """The first batches that a run trains on: inputs and labels."""
    model, processor = loaded(path)
    stream = with_texts(training_of(processor, asked), model, processor).batches(0)
    return [[dict(batch.inputs), batch.labels] for batch, _ in zip(stream, range(count), strict=False)]


def costs_of(path: Path) -> dict[str, Any]:
    """Of every budget in every scope: what the dense model costs, what no cut changes, what each unit and group do."""
    model, processor = loaded(path)
    costs = ModelCosts.of(model, anatomy_of(model), processor)
    return {
        f"{name} of {scope}": [repr(one.dense), repr(one.cost.fixed), one.cost.branch, one.cost.unit]
        for (name, scope), one in costs.budgets.items()
    }


def scopes_of(path: Path) -> list[str]:
    """What a share may be of."""
    return list(anatomy_of(loaded(path)[0]).scopes)


def scores_of(path: Path, asked: Request) -> dict[str, Tensor]:
    """(units,) float64 of each sort of scores."""
    model, processor = loaded(path)
    config, anatomy = config_of(asked), anatomy_of(model)
    target = target_of(anatomy, ModelCosts.of(model, anatomy, processor), config)
    context = PruningContext(
        Distiller(loaded(path)[0], config.distillation),
        with_texts(training_of(processor, asked), model, processor),
        transcript_loss,
        gates=config.gates,
        batches=config.calibration_batches,
        low_memory=config.low_memory,
    )
    return {"curvature": context.obs_scores(model, target), "taylor": context.taylor_scores(model, target)}


@dataclass(frozen=True)
class Result:
    """A pruned model and what it was made from."""

    teacher: Any
    processor: Any
    model: Any
    plan: dict[str, Any]
    """Group -> its size, the units kept, and whether it is skipped."""
    removed: dict[str, Any]
    """Shares, by budget and scope."""


def pruned(path: Path, asked: Request) -> Result:
    """Prune a model as `trimbre.prune` does."""
    model, processor = loaded(path)
    made = prune_model(model, processor, config=config_of(asked), training=training_of(processor, asked))
    plan = made.result.plan
    kept = {group: [size, list(plan.kept[group]), group in plan.skipped] for group, size in plan.sizes.items()}
    return Result(model, processor, made.model, kept, made.costs.shares(plan))


def recover(found: Result, asked: Request) -> None:
    """Run recovery on the model of a result, in place."""
    config = config_of(asked)
    train_on(
        found.model,
        Distiller(found.teacher, config.distillation),
        stage="recover",
        steps=config.recovery.steps,
        options=config.recovery,
        training=with_texts(training_of(found.processor, asked), found.teacher, found.processor),
    )
    found.model.eval()


def transcripts_of(model: Any, processor: Any, recording: Path) -> list[str]:
    """Greedy text of a recording, of a piece of it, and of it several times over, which is longer than one chunk."""
    transcribe = transcriber(model, processor)
    audio = read_audio(recording, transcribe.rate)
    return [transcribe(clip) for clip in (audio, audio[: len(audio) // 3], np.tile(audio, 25 * 16_000 // len(audio)))]
