"""Training a model's weights behind gates, for the methods that decide while they train."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch
from transformers import PreTrainedModel

from trimbre.models.regularisation import without_regularisation
from trimbre.pruning.gates import Gates
from trimbre.pruning.methods.base import PruningContext
from trimbre.training.distillation import Objective
from trimbre.training.loop import FitResult, fit
from trimbre.training.low_memory import recomputed
from trimbre.training.recovery import learnable, rate_for


def train_gated(
    model: PreTrainedModel,
    gates: Gates,
    context: PruningContext,
    *,
    on_step: Callable[[int], Mapping[str, float]],
    optimizers: Sequence[torch.optim.Optimizer] = (),
) -> FitResult:
    """Train the weights of a gated model in place for `GateConfig.steps`; the gates too, if an optimizer has them.

    Args:
        model: with `gates` in its forward (`gates.gated`).
        on_step: moves the gates after each step, as in `loop.fit`.
        optimizers: further ones beside the weights' own.
    """
    rate = rate_for(context.distiller.teacher, context.gates.weight_rate)
    weights = torch.optim.AdamW(learnable(model), lr=rate, weight_decay=1e-3, fused=True)
    training = context.training
    with without_regularisation(model), recomputed(model) if context.low_memory else nullcontext():
        model.train()
        return fit(
            stage="learn",
            steps=context.gates.steps,
            batches=training.batches,
            objective=Objective(model, context.distiller),
            optimizers=[weights, *optimizers],
            modules={"model": model, "gates": gates},
            on_step=on_step,
            state_dir=None if training.run is None else training.run / "learn",
            **training.stage(model),
        )
