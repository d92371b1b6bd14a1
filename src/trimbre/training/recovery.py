"""What the stages that train have in common: data, device, seed, state and judgement; and training a model on."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from trimbre.config import RecoveryConfig
from trimbre.data.batches import Batch
from trimbre.models.families.registry import anatomy_of
from trimbre.models.regularisation import without_regularisation
from trimbre.training.distillation import Distiller, Objective
from trimbre.training.loop import FitResult, cosine, fit

USUAL_RATE = 0.0053
"""Learning rate for weights of size one."""


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


def rate_for(model: PreTrainedModel, asked: float | None) -> float:
    """The learning rate that was asked for or, with None, one that suits the size of an unpruned model's weights.

    AdamW moves a weight by about the rate in every step, however flat or steep its loss: what a model bears whose
    weights are large shakes one to pieces whose weights are small. Their size is the root mean square over the
    projections that read units, which every family has.
    """
    if asked is not None:
        return asked
    weights = [model.get_parameter(f"{group.consumer}.weight").detach() for group in anatomy_of(model).groups]
    energy = sum(float(weight.float().square().sum()) for weight in weights)
    return USUAL_RATE * math.sqrt(energy / sum(weight.numel() for weight in weights))


def train_on(
    model: PreTrainedModel,
    distiller: Distiller,
    *,
    stage: str,
    steps: int,
    options: RecoveryConfig,
    training: Training,
    skip: int = 0,
) -> FitResult:
    """Train a cut (or whole) model on, with its teacher; `skip` batches that were seen before are passed over."""
    rate = rate_for(distiller.teacher, options.rate)
    with without_regularisation(model):
        return fit(
            stage=stage,
            steps=steps,
            batches=lambda start: training.batches(skip + start),
            objective=Objective(model.train(), distiller),
            optimizers=[torch.optim.AdamW(learnable(model), lr=rate, weight_decay=1e-3, fused=True)],
            schedule=cosine(steps, max(1, round(options.warmup * steps)), floor=0.0),
            modules={"model": model},
            state_dir=None if training.run is None else training.run / stage,
            **training.stage(model),
        )
