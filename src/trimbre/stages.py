"""What the stages that train have in common: data, device, seed, state and judgement; and training a model on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.distill import Distiller, Objective, undisturbed
from trimbre.loop import FitResult, cosine, fit
from trimbre.options import RecoverOptions


@dataclass(frozen=True)
class Training:
    """What the stages that train have in common."""

    batches: Callable[[int], Iterator[Batch]]
    """First batch to give -> endless training batches."""
    recorded: Callable[[int], Iterator[Batch]]
    """The same without augmentation, which is for learning from: what measures and solves hears audio as it is."""
    accelerator: Accelerator
    seed: int
    accumulate: int = 1
    """Batches in one step."""
    run: Path | None = None
    """Folder for the state to resume from."""
    save_every: int = 100
    validate: Callable[[PreTrainedModel], Mapping[str, float]] | None = None
    validate_every: int = 50

    def stage(self, model: PreTrainedModel) -> dict[str, Any]:
        """Arguments of `loop.fit` for training `model`."""
        return {
            "accelerator": self.accelerator,
            "accumulate": self.accumulate,
            "seed": self.seed,
            "save_every": self.save_every,
            "validate": None if (judge := self.validate) is None else lambda step: judge(model.eval()),
            "validate_every": self.validate_every,
        }


def learnable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training may change."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def train_on(
    model: PreTrainedModel,
    distiller: Distiller,
    *,
    stage: str,
    steps: int,
    options: RecoverOptions,
    training: Training,
    skip: int = 0,
) -> FitResult:
    """Train a cut (or whole) model on, with its teacher; `skip` batches that were seen before are passed over."""
    with undisturbed(model):
        return fit(
            stage=stage,
            steps=steps,
            batches=lambda start: training.batches(skip + start),
            objective=Objective(model.train(), distiller),
            optimizers=[torch.optim.AdamW(learnable(model), lr=options.recover_rate, weight_decay=1e-3)],
            schedule=cosine(steps, max(1, round(options.recover_warmup * steps)), floor=0.0),
            modules={"model": model},
            state_dir=None if training.run is None else training.run / stage,
            **training.stage(model),
        )
