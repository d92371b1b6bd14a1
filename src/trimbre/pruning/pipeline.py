"""The pruning pipeline: choose what is kept, cut, verify the cut, refit and recover."""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.config import PruneConfig, TargetConfig
from trimbre.costs.latency import LatencyTable
from trimbre.data.batches import Batch
from trimbre.errors import UserError
from trimbre.models.anatomy import Anatomy
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.loading import Recogniser
from trimbre.plan import Plan
from trimbre.progress import progress
from trimbre.pruning.allocation import Protection, PruningTarget, check_reachable, reachable
from trimbre.pruning.equivalence import check_equality
from trimbre.pruning.frozen import frozen_copy
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot
from trimbre.pruning.methods.registry import method_called
from trimbre.pruning.refit import refit
from trimbre.pruning.surgery import cut, shift_biases
from trimbre.pruning.targets import ModelCosts, describe, shortfall
from trimbre.training.distillation import Distiller
from trimbre.training.loop import FitResult
from trimbre.training.low_memory import cast_matrices_to_bfloat16, recomputed
from trimbre.training.pseudo_labels import PseudoLabeller
from trimbre.training.recovery import Training, train_on
from trimbre.training.task_loss import transcript_loss


@dataclass(frozen=True)
class Pruned:
    """A pruned model, and a record of how it was made."""

    model: PreTrainedModel
    result: MethodResult
    """The method's plan and what its training took."""
    costs: ModelCosts
    """Costs of the dense model."""
    equality: float
    """Relative distance of the cut model's output from the gated model's."""
    fits: Mapping[str, FitResult]
    """Stage of training (`learn`, `recover`, `control`) -> its report."""
    control: PreTrainedModel | None
    """The dense model, fine-tuned in the same way for as many steps; None without a control."""

    def to_json(self, target: TargetConfig) -> dict[str, Any]:
        """What was removed, whether `target` was met, and what each stage took, as plain data."""
        budgets, plan = self.costs.budgets_for(target), self.result.plan
        return {
            "removed": self.costs.shares(plan),
            "dense": self.costs.dense(),
            "widths": {path: [plan.widths[path], size] for path, size in plan.sizes.items()},
            "missed": shortfall(target, budgets, plan),
            "expected_when_learned": dict(zip((budget.name for budget in budgets), self.result.expected, strict=False)),
            "units_moved_by_search": self.result.moved,
            "units_cut_as_seeded": self.result.as_seeded,
            "cut_equals_gated_within": self.equality,
            "audio_seconds": sum(stage.audio_seconds for name, stage in self.fits.items() if name != "control"),
            "stages": {name: stage.to_json() for name, stage in self.fits.items()},
        }


def resolve_target(recogniser: Recogniser, config: PruneConfig, table: LatencyTable | None) -> PruneConfig:
    """A config whose target is a share of a cost; raises OptionError for a real-time factor that cannot be reached."""
    if config.target.rtf is None:
        return config
    anatomy = anatomy_of(recogniser.model)
    costs = ModelCosts.of(recogniser.model, anatomy, recogniser.processor, table)
    protected = Protection.parse(config.protect, anatomy).mask(anatomy)
    target = costs.resolve_target(config.target, anatomy, protected)
    return replace(config, remove=target.remove, rtf=None, budget=target.budget, of=target.of)


def preview(
    recogniser: Recogniser, config: PruneConfig, table: LatencyTable | None, before: Recogniser | None = None
) -> dict[str, Any]:
    """What a run would remove, as plain data, without running it; raises UserError for an unreachable target."""
    anatomy = anatomy_of(recogniser.model)
    costs = _costs(recogniser, table, before)
    target = target_of(anatomy, costs, config)
    return {
        **describe(costs, anatomy),
        "to_remove": {budget.name: target.share * budget.dense for budget in target.budgets},
        "of": config.of,
        "reachable": {budget.name: reachable(budget, target) for budget in target.budgets},
        "learn_steps": config.gates.steps if method_called(config.method).TRAINS else 0,
        "options": asdict(config),
    }


def prune_model(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    config: PruneConfig,
    training: Training,
    table: LatencyTable | None = None,
    in_place: bool = False,
    before: Recogniser | None = None,
) -> Pruned:
    """Prune a copy of `model`: choose what is kept, cut, verify the cut, refit and recover.

    Args:
        model: the dense model, which is the teacher throughout. It stays as it was: weights, precision, device, mode,
            flags and config. What it does not train (`requires_grad`) is not trained here either.
        training: data, device and seed; the teacher adds the texts that a decoder reads.
        table: where latency comes from, for a latency budget.
        in_place: take `model` itself for the teacher, which saves the memory of a copy where the device or
            `low_memory` asks for one. Afterwards it is frozen, on that device and in that precision.
        before: the model with all rows of its vocabulary, where `model` is that without some. It writes the texts of
            audio without a transcript, and shares are of its costs.

    Raises:
        UserError: the target cannot be reached, or there is nothing to train.
    """
    anatomy = anatomy_of(model)
    costs = _costs(Recogniser(model, processor), table, before)
    target = target_of(anatomy, costs, config)
    method = method_called(config.method)

    accelerator = training.accelerator
    trainable = _trainable(model, anatomy, config)
    student = copy.deepcopy(model).to(accelerator.device).eval()
    _set_trainable(student, trainable)
    teacher = (model if in_place else frozen_copy(model)).to(accelerator.device)
    if config.low_memory:
        cast_matrices_to_bfloat16(teacher)
    distiller = Distiller(teacher, config.distillation)
    training = _with_texts(training, teacher, processor, before)

    context = PruningContext(
        distiller,
        training,
        transcript_loss,
        gates=config.gates,
        batches=config.calibration_batches,
        low_memory=config.low_memory,
    )
    everything = one_shot(Plan.everything(anatomy.sizes), target)
    result = method.choose(student, context, target) if config.remove else everything
    student.eval()
    shift_biases(student, result.bias_shifts)
    gate_values = result.gate_values.restricted_to(result.plan)
    small = cut(student, result.plan, gate_values=gate_values) if config.remove else student
    _set_trainable(small, trainable)
    with progress("verification", 1) as show:
        equality = check_equality(student, small, gate_values, next(training.batches(0)).to(accelerator.device).inputs)
        show(1)
    del student

    steps = result.fit.steps if result.fit else 0
    seen = steps * training.accumulate
    if config.recovery.refit and config.remove:
        with context.full_precision():
            refit(
                small,
                teacher,
                context.calibration_batches(config.recovery.refit_batches, seen),
                plan=result.plan,
                scope=config.of,
                loss=partial(transcript_loss, teacher),
                reduce_sum=partial(accelerator.reduce, reduction="sum"),
            )

    recover = partial(train_on, distiller=distiller, options=config.recovery, training=training)
    fits = {"learn": result.fit} if result.fit else {}
    if config.recovery.steps:
        with recomputed(small) if config.low_memory else nullcontext():
            fits["recover"] = recover(small, stage="recover", steps=config.recovery.steps, skip=seen)
    control = None
    if config.control:
        control = copy.deepcopy(teacher)
        _set_trainable(control, trainable)
        fits["control"] = recover(control, stage="control", steps=steps + config.recovery.steps)
        control.eval()
    return Pruned(small.eval(), result, costs, equality, fits, control)


def _trainable(model: PreTrainedModel, anatomy: Anatomy, config: PruneConfig) -> set[str]:
    """Names of the parameters to train; raises UserError where a run would train and all are frozen."""
    untouched = anatomy.untouched.get(config.of, ())
    names = {name for name, one in model.named_parameters() if one.requires_grad and not name.startswith(untouched)}
    if not names and (method_called(config.method).TRAINS or config.recovery.steps):
        raise UserError("all parameters of the model are frozen: call requires_grad_(True), or train for no steps")
    return names


def _set_trainable(model: PreTrainedModel, names: Collection[str]) -> None:
    """Make the parameters of these names trainable, and no others, in place."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)


def _costs(recogniser: Recogniser, table: LatencyTable | None, before: Recogniser | None) -> ModelCosts:
    """The costs of a model, as shares of those of the model with all rows of its vocabulary."""
    model, processor = recogniser
    costs = ModelCosts.of(model, anatomy_of(model), processor, table)
    if before is None:
        return costs
    return costs.relative_to(ModelCosts.of(before.model, anatomy_of(before.model), before.processor))


def _with_texts(
    training: Training, teacher: PreTrainedModel, processor: ProcessorMixin, writer: Recogniser | None
) -> Training:
    """Training whose batches have the texts that the model reads beside the audio, if it reads any."""
    if not head_of(teacher).reads_text:
        return training
    label = PseudoLabeller(teacher, processor, training.accelerator.autocast, writer)

    def labelled(batches: Callable[[int], Iterator[Batch]], start: int) -> Iterator[Batch]:
        return map(label, batches(start))

    return replace(training, batches=partial(labelled, training.batches), recorded=partial(labelled, training.recorded))


def target_of(anatomy: Anatomy, costs: ModelCosts, config: PruneConfig) -> PruningTarget:
    """The target of a run; raises UserError, naming what can be reached, for an unreachable one."""
    budgets = costs.budgets_for(config.target)  # refuses a scope that the family has not
    protected = Protection.parse(config.protect, anatomy).mask(anatomy, config.of)
    if config.budget == "latency":  # which has no price for the channels of a front end
        protected |= torch.tensor([not group.residual for group in anatomy.groups])
    target = PruningTarget(anatomy, budgets, config.target.remove, protected, config.multiple_of)
    if config.remove:
        check_reachable(target)
    return target
