"""Recovery: fine-tuning a cut model, or the dense one as its control, with distillation from the dense model."""

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
"""Learning rate for weights of root mean square one."""


@dataclass(frozen=True)
class Training:
    """Data, device, seed, states and validation, which all stages of a run share."""

    batches: Callable[[int], Iterator[Batch]]
    """Number of the first batch -> endless training batches."""
    recorded: Callable[[int], Iterator[Batch]]
    """The same without augmentation, for scores and refit, which measure on audio as it was recorded."""
    accelerator: Accelerator
    seed: int
    accumulate: int = 1
    """Batches per optimizer step."""
    run: Path | None = None
    """Folder for the states to resume from."""
    save_every: int = 100
    """Steps between saved states."""
    validate: Callable[[PreTrainedModel], Mapping[str, float]] | None = None
    """Model in eval mode -> figures such as its `wer`."""
    validate_every: int = 50
    """Steps between validations."""

    def stage(self, model: PreTrainedModel) -> dict[str, Any]:
        """The arguments of `loop.fit` that all stages share, for training `model`."""
        return {
            "accelerator": self.accelerator,
            "accumulate": self.accumulate,
            "seed": self.seed,
            "save_every": self.save_every,
            "validate": None if (validate := self.validate) is None else lambda step: validate(model.eval()),
            "validate_every": self.validate_every,
        }


def learnable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that require a gradient."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def rate_for(model: PreTrainedModel, asked: float | None) -> float:
    """The learning rate that was asked for or, with None, one in proportion to the size of a dense model's weights.

    AdamW moves a weight by about the rate in every step, whatever the size of its gradient: a rate that suits large
    weights destroys small ones. The size is the root mean square of the output projections of all groups.
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
    """Fine-tune a cut model, or the dense one, with distillation.

    Args:
        model: is trained in place.
        stage: `recover` or `control`.
        skip: number of batches that an earlier stage has seen; training goes on after them.
    """
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
