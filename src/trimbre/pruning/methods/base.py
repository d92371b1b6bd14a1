"""What every method is given and what it gives back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.config import PruneConfig
from trimbre.data.batches import Batch
from trimbre.models.anatomy import Group
from trimbre.models.regularisation import without_regularisation
from trimbre.plan import Plan
from trimbre.pruning.allocation import PruningTarget
from trimbre.pruning.gates import Gates
from trimbre.pruning.scores.obs import losses, moments
from trimbre.pruning.scores.taylor import importance
from trimbre.pruning.surgery import GateValues
from trimbre.training.distillation import Distiller, Objective
from trimbre.training.loop import FitResult, fit
from trimbre.training.low_memory import recomputed
from trimbre.training.recovery import Training, learnable, rate_for

MOMENTS_BYTES = 2**30
"""Memory that second moments may take at once."""


@dataclass(frozen=True)
class PruningContext:
    """What there is to learn from."""

    distiller: Distiller
    training: Training
    options: PruneConfig
    loss: Callable[[PreTrainedModel, Batch], Tensor]
    """The task's own loss, which is not at its minimum for the unpruned model."""

    def heard(self, number: int, start: int = 0) -> Iterator[Batch]:
        """So many batches to measure on, as they were recorded, from batch `start` of the training data on."""
        device = self.training.accelerator.device
        return (batch.to(device) for batch in islice(self.training.recorded(start), number))

    def precisely(self) -> AbstractContextManager[Any]:
        """Where things are measured and solved: in full precision, unless the teacher is held in less.

        A few batches decide. Slopes in bfloat16 are noise to a fair part, and a branch, as the difference of two larger
        streams, is mostly their rounding.
        """
        return self.training.accelerator.autocast() if self.options.low_memory else nullcontext()

    def slopes(self, model: PreTrainedModel, aim: PruningTarget, start: int = 0) -> Tensor:
        """(units,) first-order (Taylor) scores of `model` as it stands, the same for all processes.

        Args:
            start: first batch of the training data to hear.
        """
        heard = self.heard(self.options.calibration_batches, start)
        with self.precisely():
            found = importance(model, aim.anatomy, heard, partial(self.loss, model))
        scores: Tensor = self.training.accelerator.reduce(found, reduction="mean")
        return scores.double().cpu()

    def losses(self, model: PreTrainedModel, aim: PruningTarget) -> Tensor:
        """(units,) second-order scores of `model` as it stands, the same for all processes; 0 for what is protected.

        Where the moments of all projections don't fit into MOMENTS_BYTES, the audio is heard again for each part.
        """
        mean = partial(self.training.accelerator.reduce, reduction="mean")
        groups, scores = aim.anatomy.groups, {}
        for part in _parts(model, [g for g, held in zip(groups, aim.protected.tolist(), strict=True) if not held]):
            heard = self.heard(self.options.calibration_batches)
            with self.precisely():
                found = moments(model, part, heard, partial(self.loss, model), mean=mean)
            for group, own in zip(part, found, strict=True):
                bias = model.get_submodule(group.consumer).bias is not None
                scores[group.path] = losses(_consumer_weight(model, group), own, rows=group.kind.rows, bias=bias).cpu()
        return torch.cat([scores.get(group.path, torch.zeros(group.size, dtype=torch.float64)) for group in groups])

    def learn(
        self,
        model: PreTrainedModel,
        gates: Gates,
        *,
        on_step: Callable[[int], Mapping[str, float]],
        optimizers: Sequence[torch.optim.Optimizer] = (),
    ) -> FitResult:
        """Train the weights of a model behind `gates` for `learn_steps`; the gates too, where an optimizer has them.

        Args:
            on_step: what moves the gates after each step, as in `loop.fit`.
            optimizers: further ones beside the weights' own.
        """
        options = self.options
        rate = rate_for(self.distiller.teacher, options.gates.weight_rate)
        weights = torch.optim.AdamW(learnable(model), lr=rate, weight_decay=1e-3, fused=True)
        with without_regularisation(model), recomputed(model) if options.low_memory else nullcontext():
            model.train()
            return fit(
                stage="learn",
                steps=options.gates.steps,
                batches=self.training.batches,
                objective=Objective(model, self.distiller),
                optimizers=[weights, *optimizers],
                modules={"model": model, "gates": gates},
                on_step=on_step,
                state_dir=None if self.training.run is None else self.training.run / "learn",
                **self.training.stage(model),
            )


def _consumer_weight(model: PreTrainedModel, group: Group) -> Tensor:
    """(dim, channels) of a group's consumer."""
    return model.get_submodule(group.consumer).get_parameter("weight").detach().flatten(1)


def _parts(model: PreTrainedModel, groups: Sequence[Group]) -> Iterator[list[Group]]:
    """The groups in order, as many at a time as their second moments fit into MOMENTS_BYTES, at least one."""
    part: list[Group] = []
    held = 0
    for group in groups:
        size = 8 * sum(side * side for side in _consumer_weight(model, group).shape)
        if part and held + size > MOMENTS_BYTES:
            yield part
            part, held = [], 0
        part.append(group)
        held += size
    if part:
        yield part


@dataclass(frozen=True)
class MethodResult:
    """What a method decided, and what it took."""

    plan: Plan
    scales: GateValues
    """Values that the gates ended with, to be folded into the weights at the cut."""
    fit: FitResult | None = None
    """What training took meanwhile; None for a method that looks and decides."""
    expected: list[float] = field(default_factory=list)
    """Expected share removed when learning ended, per budget, for a method that learns gates."""
    moved: float | None = None
    """Share of the units that the search for the exact cost decided otherwise than the method."""
    as_seeded: float | None = None
    """Share of the units cut that the scores which gates started from would have cut too."""


class Method(Protocol):
    """A module of this package."""

    LEARNS: bool
    """Whether it trains the model while it decides, and so takes `learn_steps`."""

    def choose(self, model: PreTrainedModel, context: PruningContext, aim: PruningTarget) -> MethodResult:
        """Decide what `model` keeps; a method that learns trains its weights in place."""


def one_shot(plan: Plan, aim: PruningTarget) -> MethodResult:
    """The choice of a method that trains nothing."""
    return MethodResult(plan, GateValues.open(aim.anatomy))
