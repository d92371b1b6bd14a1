"""The whole path from a trained recogniser to a smaller one: choose what stays, cut, verify, refit, recover."""

import copy
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from trimbre.config import PruneConfig, TargetConfig
from trimbre.costs.latency import LatencyTable
from trimbre.models.anatomy import Anatomy
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import Recogniser
from trimbre.pruning.allocation import Protection, PruningTarget, check_reachable
from trimbre.pruning.equivalence import check_equality
from trimbre.pruning.methods.base import MethodResult, PruningContext
from trimbre.pruning.methods.registry import method_called
from trimbre.pruning.refit import refit
from trimbre.pruning.surgery import cut
from trimbre.pruning.targets import ModelCosts, describe, shortfall
from trimbre.training.distillation import Distiller
from trimbre.training.loop import FitResult
from trimbre.training.low_memory import cast_matrices_to_bfloat16, recomputed
from trimbre.training.recovery import Training, train_on
from trimbre.training.task_loss import transcript_loss


@dataclass(frozen=True)
class Pruned:
    """A pruned model and how it came to be."""

    model: PreTrainedModel
    choice: MethodResult
    """What the method decided."""
    ledger: ModelCosts
    equality: float
    """Relative distance of the cut model's output from the gated model's."""
    fits: Mapping[str, FitResult]
    control: PreTrainedModel | None
    """The unpruned model, trained on for as many steps in the same way; None where it wasn't asked for."""

    def to_json(self, target: TargetConfig) -> dict[str, Any]:
        """What was removed, with what came of `target`, and what each stage took, as plain data."""
        budgets, plan = self.ledger.asked(target), self.choice.plan
        return {
            "removed": self.ledger.shares(plan),
            "dense": self.ledger.dense(),
            "widths": {path: [plan.widths[path], size] for path, size in plan.sizes.items()},
            "missed": shortfall(target, budgets, plan),
            "expected_when_learned": dict(zip((budget.name for budget in budgets), self.choice.expected, strict=False)),
            "units_moved_by_search": self.choice.moved,
            "units_cut_as_seeded": self.choice.as_seeded,
            "cut_equals_gated_within": self.equality,
            "audio_seconds": sum(stage.audio_seconds for name, stage in self.fits.items() if name != "control"),
            "stages": {name: stage.to_json() for name, stage in self.fits.items()},
        }


def resolve_target(recogniser: Recogniser, options: PruneConfig, table: LatencyTable | None) -> PruneConfig:
    """Options whose target is a share; raises UserError for a time that cannot be reached."""
    if options.target.rtf is None:
        return options
    anatomy = anatomy_of(recogniser.model)
    ledger = ModelCosts.of(recogniser.model, anatomy, recogniser.processor, table)
    protected = Protection.parse(options.protect, anatomy).mask(anatomy)
    target = ledger.resolve_target(options.target, anatomy, protected)
    return replace(options, remove=target.remove, rtf=None, budget=target.budget, of=target.of)


def preview(recogniser: Recogniser, options: PruneConfig, table: LatencyTable | None) -> dict[str, Any]:
    """What a run would remove, without running it; raises UserError for what cannot be reached."""
    anatomy = anatomy_of(recogniser.model)
    ledger = ModelCosts.of(recogniser.model, anatomy, recogniser.processor, table)
    aim = aim_of(anatomy, ledger, options)
    return {
        **describe(ledger, anatomy),
        "to_remove": {budget.name: options.target.remove * budget.dense for budget in aim.budgets},
        "of": options.target.of,
        "reachable": {budget.name: budget.reachable for budget in aim.budgets},
        "learn_steps": options.gates.steps if method_called(options.method).LEARNS else 0,
        "options": asdict(options),
    }


def prune_model(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    options: PruneConfig,
    training: Training,
    table: LatencyTable | None = None,
) -> Pruned:
    """Choose what a copy of `model` keeps, cut it, check that the cut changed nothing, refit and train the rest.

    `model` is the teacher throughout and stays as it is, save for its precision with `options.low_memory`.

    Raises:
        UserError: the target cannot be reached.
    """
    anatomy = anatomy_of(model)
    ledger = ModelCosts.of(model, anatomy, processor, table)
    aim = aim_of(anatomy, ledger, options)
    method = method_called(options.method)

    accelerator = training.accelerator
    teacher = model.to(accelerator.device).eval()
    student = copy.deepcopy(teacher)
    still = anatomy.untouched.get(options.target.of, ())
    learned = {name for name, one in teacher.named_parameters() if one.requires_grad and not name.startswith(still)}
    _let_learn(student, learned)
    if options.low_memory:
        cast_matrices_to_bfloat16(teacher)
    distiller = Distiller(teacher, options.distillation)

    context = PruningContext(distiller, training, options, transcript_loss)
    choice = method.choose(student, context, aim)
    student.eval()
    scales = choice.scales.hardened(choice.plan)
    small = cut(student, choice.plan, scales=scales)
    _let_learn(small, learned)
    equality = check_equality(student, small, scales, next(training.batches(0)).to(accelerator.device).inputs)

    steps = choice.fit.steps if choice.fit else 0
    seen = steps * training.accumulate
    if options.recovery.refit:
        heard = context.heard(options.recovery.refit_batches, seen)
        with context.precisely():
            together = partial(accelerator.reduce, reduction="sum")
            slope = partial(transcript_loss, teacher)
            refit(small, teacher, heard, scope=options.target.of, loss=slope, together=together)

    fits = {"learn": choice.fit} if choice.fit else {}
    if options.recovery.steps:
        with recomputed(small) if options.low_memory else nullcontext():
            fits["recover"] = train_on(
                small,
                distiller,
                stage="recover",
                steps=options.recovery.steps,
                options=options.recovery,
                training=training,
                skip=seen,
            )
    control = None
    if options.control:
        control = copy.deepcopy(teacher)
        _let_learn(control, learned)
        fits["control"] = train_on(
            control,
            distiller,
            stage="control",
            steps=steps + options.recovery.steps,
            options=options.recovery,
            training=training,
        )
        control.eval()
    return Pruned(small.eval(), choice, ledger, equality, fits, control)


def _let_learn(model: PreTrainedModel, names: Collection[str]) -> None:
    """Let training change the parameters of these names, of what is left of them, and no others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)


def aim_of(anatomy: Anatomy, ledger: ModelCosts, options: PruneConfig) -> PruningTarget:
    """What a run has to reach; raises UserError, naming what can be, where it cannot."""
    budgets = ledger.asked(options.target)  # refuses a scope that the family hasn't
    protected = Protection.parse(options.protect, anatomy).mask(anatomy, options.target.of)
    aim = PruningTarget(anatomy, budgets, options.target.remove, protected, options.multiple_of)
    check_reachable(aim)
    return aim
