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

from trimbre.curvature import losses, moments
from trimbre.data.batches import Batch
from trimbre.distill import Distiller, Objective, undisturbed
from trimbre.gates import Gates
from trimbre.importance import Importance, importance
from trimbre.loop import FitResult, fit
from trimbre.memory import recomputed
from trimbre.options import PruneOptions
from trimbre.plan import Plan
from trimbre.search import Aim
from trimbre.stages import Training, learnable
from trimbre.surgery import Scales


@dataclass(frozen=True)
class Lesson:
    """What there is to learn from."""

    distiller: Distiller
    training: Training
    options: PruneOptions
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

    def importance(self, model: PreTrainedModel, aim: Aim, start: int = 0) -> Importance:
        """Taylor scores of `model` as it stands; processes that hear batches of their own get the same ones."""
        heard = self.heard(self.options.gates.seed_batches, start)
        with self.precisely():
            found = importance(model, aim.anatomy, heard, partial(self.loss, model))
        mean = partial(self.training.accelerator.reduce, reduction="mean")
        return Importance(mean(found.units), mean(found.branches))

    def losses(self, model: PreTrainedModel, aim: Aim) -> Tensor:
        """(units,) second-order scores of `model` as it stands, the same for all processes; 0 for what is protected."""
        accelerator = self.training.accelerator
        free = [group for group, held in zip(aim.anatomy.groups, aim.protected.tolist(), strict=True) if not held]
        heard = self.heard(self.options.gates.seed_batches)
        with self.precisely():
            mean = partial(accelerator.reduce, reduction="mean")
            found = iter(moments(model, free, heard, partial(self.loss, model), mean=mean))
        scores = []
        for group in aim.anatomy.groups:
            if group not in free:
                scores.append(torch.zeros(group.size, dtype=torch.float64))
                continue
            weight: Tensor = model.get_submodule(group.consumer).get_parameter("weight").detach()
            scores.append(losses(weight.flatten(1), next(found), rows=group.kind.rows).cpu())
        return torch.cat(scores)

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
        weights = torch.optim.AdamW(learnable(model), lr=options.gates.weight_rate, weight_decay=1e-3)
        with undisturbed(model), recomputed(model) if options.low_memory else nullcontext():
            model.train()
            return fit(
                stage="learn",
                steps=options.learn_steps,
                batches=self.training.batches,
                objective=Objective(model, self.distiller),
                optimizers=[weights, *optimizers],
                modules={"model": model, "gates": gates},
                on_step=on_step,
                state_dir=None if self.training.run is None else self.training.run / "learn",
                **self.training.stage(model),
            )


@dataclass(frozen=True)
class Choice:
    """What a method decided, and what it took."""

    plan: Plan
    scales: Scales
    """Values that the gates ended with, to be folded into the weights at the cut."""
    fit: FitResult | None = None
    """What training took meanwhile; None for a method that looks and decides."""
    expected: list[float] = field(default_factory=list)
    """Expected share removed when learning ended, per budget, for a method that learns gates."""
    moved: float | None = None
    """Share of the units that the search for the exact cost decided otherwise than the method."""


class Method(Protocol):
    """A module of this package."""

    LEARNS: bool
    """Whether it trains the model while it decides, and so takes `learn_steps`."""

    def choose(self, model: PreTrainedModel, lesson: Lesson, aim: Aim) -> Choice:
        """Decide what `model` keeps; a method that learns trains its weights in place."""


def one_shot(plan: Plan, aim: Aim) -> Choice:
    """The choice of a method that trains nothing."""
    return Choice(plan, Scales.open(aim.anatomy))
