"""The interface of pruning methods: what a method is given, and what it returns."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimbre.config import GateConfig
from trimbre.data.batches import Batch
from trimbre.errors import UserError
from trimbre.models.anatomy import Group
from trimbre.plan import Plan
from trimbre.progress import tracked
from trimbre.pruning.allocation import PruningTarget
from trimbre.pruning.scores.coupled_taylor import coupled_taylor_scores
from trimbre.pruning.scores.obs import obs_scores
from trimbre.pruning.scores.taylor import taylor_scores
from trimbre.pruning.surgery import GateValues
from trimbre.training.distillation import Distiller
from trimbre.training.loop import FitResult
from trimbre.training.recovery import Training

InputScores: TypeAlias = Callable[..., Tensor]
"""(units,) of `(model, groups, batches, reduce_mean=...)`, as `scores.activation` defines some."""


@dataclass(frozen=True)
class PruningContext:
    """Data, teacher and options of a pruning run, and the scores that methods have in common."""

    distiller: Distiller
    training: Training
    loss: Callable[[PreTrainedModel, Batch], Tensor]
    """The task's own loss, which is not at its minimum for the dense model."""
    gates: GateConfig = field(default_factory=GateConfig)
    """Options of the methods that train."""
    batches: int = 64
    """Calibration batches that scores are computed on."""
    low_memory: bool = False
    """The teacher is held in bfloat16, and activations are recomputed in the backward."""

    def calibration_batches(self, number: int | None = None, start: int = 0) -> Iterator[Batch]:
        """Batches of the training data without augmentation, on the device; their progress is shown.

        Args:
            number: how many; None: as many as scores are computed on.
            start: first batch of the training data.
        """
        device = self.training.accelerator.device
        number = self.batches if number is None else number
        batches = (batch.to(device) for batch in islice(self.training.recorded(start), number))
        return tracked(batches, "calibration", number)

    def full_precision(self) -> AbstractContextManager[Any]:
        """Context for scores and refit: float32, or autocast where the teacher is held in bfloat16.

        Few batches decide here. In bfloat16 a good part of a gradient is rounding error, and so is most of a branch
        that is computed as the difference of two larger streams.
        """
        return self.training.accelerator.autocast() if self.low_memory else nullcontext()

    def taylor_scores(self, model: PreTrainedModel, target: PruningTarget, start: int = 0) -> Tensor:
        """(units,) float64: first-order scores of `model` as it stands, the same in all processes.

        Args:
            start: first batch of the training data to use.
        """
        with self.full_precision():
            own = taylor_scores(model, target.anatomy, self.calibration_batches(start=start), partial(self.loss, model))
        return finite(self.mean(own).cpu().double(), target)

    def coupled_taylor_scores(self, model: PreTrainedModel, target: PruningTarget, *, vectors: bool = False) -> Tensor:
        """(units,) float64: first-order scores of all weights that leave with a unit, the same in all processes.

        Args:
            vectors: see `scores.coupled_taylor`.
        """
        batches, loss = self.calibration_batches(), partial(self.loss, model)
        with self.full_precision():
            scores = coupled_taylor_scores(model, target.anatomy, batches, loss, vectors=vectors, reduce_mean=self.mean)
        return finite(scores, target)

    def obs_scores(self, model: PreTrainedModel, target: PruningTarget) -> Tensor:
        """(units,) float64: second-order scores of `model` as it stands, the same in all processes; 0 if protected."""
        groups = scorable(model, target)
        with self.full_precision():
            scores = obs_scores(
                model,
                groups,
                self.calibration_batches,
                partial(self.loss, model),
                reduce_mean=self.mean,
            )
        return in_a_row(groups, scores.values(), target)

    def scores_of_inputs(self, scores: InputScores, model: PreTrainedModel, target: PruningTarget) -> Tensor:
        """(units,) float64: `scores`, of what the units put out, the same in all processes; 0 if protected.

        Args:
            scores: a function such as `scores.activation.wanda_scores`, run on the groups that are not protected.
        """
        groups = scorable(model, target)
        own = scores(model, groups, self.calibration_batches(), reduce_mean=self.mean).cpu()
        return in_a_row(groups, own.split([group.size for group in groups]), target)

    def mean(self, own: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        mean: Tensor = self.training.accelerator.reduce(own, reduction="mean")
        return mean


def scorable(model: PreTrainedModel, target: PruningTarget) -> list[Group]:
    """The groups that are not protected; raises UserError for one whose consumer is a convolution over frequency."""
    for group in target.free:
        consumer = model.get_submodule(group.consumer)
        if consumer.get_parameter("weight")[0, 0].numel() > 1 and not isinstance(consumer, nn.Conv1d):
            raise UserError(
                f"{group.path} has no second-order or activation scores, for {group.consumer} is a convolution over "
                f"more than time: protect {group.kind.name}, or prune by magnitude or taylor"
            )
    return target.free


def in_a_row(groups: Sequence[Group], scores: Iterable[Tensor], target: PruningTarget) -> Tensor:
    """(units,) float64: the scores of `groups` among those of all groups in order, 0 where a group has none.

    Raises:
        UserError: some are no finite numbers; it names the group.
    """
    own = dict(zip([group.path for group in groups], scores, strict=True))
    every = target.anatomy.groups
    row = [own.get(group.path, torch.zeros(group.size, dtype=torch.float64)) for group in every]
    return finite(torch.cat(row), target)


def finite(scores: Tensor, target: PruningTarget) -> Tensor:
    """(units,) the scores of all groups; raises UserError, naming the group, where some are no finite numbers."""
    groups = target.anatomy.groups
    for group, own in zip(groups, scores.split([group.size for group in groups]), strict=True):
        if not own.isfinite().all():
            raise UserError(
                f"the scores of {group.path} are not finite: check that the model's outputs on the training data are"
            )
    return scores


@dataclass(frozen=True)
class MethodResult:
    """What a method decided, and what its training took."""

    plan: Plan
    gate_values: GateValues
    """Final values of the gates, which the cut folds into the weights."""
    fit: FitResult | None = None
    """Report of the training; None for a method that trains nothing."""
    expected: list[float] = field(default_factory=list)
    """Expected share removed at the end of training, per budget, for a method that learns gates."""
    moved: float | None = None
    """Share of the units on which the search for the exact cost differs from the gates."""
    as_seeded: float | None = None
    """Share of the cut units that the scores from which the gates started would have cut too."""
    bias_shifts: Mapping[str, Tensor] = field(default_factory=dict)
    """Path of a group -> (dim,) to add to its consumer's bias before the cut, in place of units that leave."""


class Method(Protocol):
    """A way to choose what is cut: a module or an object with these two names (see `registry.register_method`)."""

    TRAINS: bool
    """Whether it trains the model while it decides, for `GateConfig.steps`."""

    def choose(self, model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
        """Decide what `model` keeps.

        Args:
            model: on its device, in eval mode. A method with TRAINS may change its weights in place; no other may.
            context: data, options and scores.
            target: shares to remove; `allocation.plan_for_target` makes a plan that meets them from any scores.

        Returns:
            The plan, and the gate values to fold (`one_shot` makes one without). Every process has to return the same.
        """


def one_shot(plan: Plan, target: PruningTarget) -> MethodResult:
    """The result of a method that trains nothing."""
    return MethodResult(plan, GateValues.open(target.anatomy))
