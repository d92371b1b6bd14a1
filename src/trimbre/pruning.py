"""The whole path from a trained recogniser to a smaller one: learn, cut, verify, refit, recover."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.anatomy import anatomy_of
from trimbre.data.batches import Batch
from trimbre.decoding import blank_id, collapse, frame_labels
from trimbre.distill import Distiller, Objective, undisturbed
from trimbre.loop import FitResult, cosine, fit
from trimbre.memory import halve, recomputed
from trimbre.methods import l0
from trimbre.options import PruneOptions, RecoverOptions, Target
from trimbre.plan import Plan
from trimbre.refit import refit
from trimbre.search import Protection, check_reachable
from trimbre.surgery import Scales, cut
from trimbre.target import Ledger, shortfall
from trimbre.verification import check_equality


@dataclass(frozen=True)
class Training:
    """What the stages that train have in common."""

    batches: Callable[[int], Iterator[Batch]]
    """First batch to give -> endless training batches."""
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


@dataclass(frozen=True)
class Pruned:
    """A pruned model and how it came to be."""

    model: PreTrainedModel
    plan: Plan
    ledger: Ledger
    expected: list[float]
    """Expected share removed when learning ended, per budget asked for."""
    moved: float
    """Share of the units that the search for the exact cost decided otherwise than the gates."""
    equality: float
    """Relative distance of the cut model's output from the gated model's."""
    fits: Mapping[str, FitResult]
    control: PreTrainedModel | None
    """The unpruned model, trained on for as many steps in the same way; None where it wasn't asked for."""

    def to_json(self, target: Target) -> dict[str, Any]:
        """What was removed, with what came of `target`, and what each stage took, as plain data."""
        budgets = self.ledger.asked(target)
        return {
            "removed": self.ledger.shares(self.plan),
            "dense": self.ledger.dense(),
            "widths": {path: [self.plan.widths[path], size] for path, size in self.plan.sizes.items()},
            "missed": shortfall(target, budgets, self.plan),
            "expected_when_learned": dict(zip([budget.name for budget in budgets], self.expected, strict=True)),
            "units_moved_by_search": self.moved,
            "cut_equals_gated_within": self.equality,
            "compared_with": f"the unpruned model{', trained on for as many steps' if self.control else ''}",
            "audio_seconds": sum(stage.audio_seconds for name, stage in self.fits.items() if name != "control"),
            "stages": {name: stage.to_json() for name, stage in self.fits.items()},
        }


def prune_model(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    options: PruneOptions,
    training: Training,
) -> Pruned:
    """Learn gates on a copy of `model`, cut it, check that the cut changed nothing, refit and train the rest.

    `model` is the teacher throughout and stays as it is, save for its precision with `options.low_memory`.

    Raises:
        UserError: the target cannot be reached.
    """
    anatomy = anatomy_of(model)
    ledger = Ledger.of(model, anatomy, processor)
    budgets = ledger.asked(options.target)
    protected = Protection.parse(options.protect, anatomy).mask(anatomy, options.target.of)
    check_reachable(anatomy, budgets, options.target.remove, protected)

    device = training.accelerator.device
    teacher = model.to(device).eval()
    student = copy.deepcopy(teacher)
    if options.low_memory:
        halve(teacher)
    distiller = Distiller(teacher, options.distill)

    with training.accelerator.autocast():
        gates = l0.start_gates(
            student,
            anatomy,
            budgets,
            batches=(batch.to(device) for batch in islice(training.batches(0), options.gates.seed_batches)),
            loss=lambda batch: transcript_loss(student, batch),
            protected=protected,
            options=options.gates,
            accelerator=training.accelerator,
        )
    with recomputed(student) if options.low_memory else nullcontext():
        learned = l0.learn(
            student,
            gates,
            budgets,
            target=options.target.remove,
            steps=options.learn_steps,
            objective=Objective(student, distiller),
            options=options.gates,
            batches=training.batches,
            state_dir=None if training.run is None else training.run / "learn",
            **training.stage(student),
        )
    expected = l0.Multipliers(gates, budgets).removed()
    plan, moved = l0.plan_from_gates(
        anatomy,
        gates,
        budgets,
        target=options.target.remove,
        protected=protected,
        multiple_of=options.multiple_of,
    )
    student.eval()
    scales = hardened(gates.scales(), plan)
    small = cut(student, plan, scales=scales)
    equality = check_equality(student, small, scales, next(training.batches(0)).to(device).inputs)

    seen = options.learn_steps * training.accumulate
    if options.recover.refit_batches:
        heard = (batch.to(device) for batch in islice(training.batches(seen), options.recover.refit_batches))
        with training.accelerator.autocast():
            refit(small, teacher, heard, together=partial(training.accelerator.reduce, reduction="sum"))

    fits = {"learn": learned}
    if options.recover_steps:
        with recomputed(small) if options.low_memory else nullcontext():
            fits["recover"] = train_on(
                small,
                distiller,
                stage="recover",
                steps=options.recover_steps,
                options=options.recover,
                training=training,
                skip=seen,
            )
    control = None
    if options.control:
        control = copy.deepcopy(teacher).requires_grad_(True)
        steps = options.learn_steps + options.recover_steps
        fits["control"] = train_on(
            control, distiller, stage="control", steps=steps, options=options.recover, training=training
        )
        control.eval()
    return Pruned(small.eval(), plan, ledger, expected, moved, equality, fits, control)


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
            optimizers=[torch.optim.AdamW(model.parameters(), lr=options.recover_rate, weight_decay=1e-3)],
            schedule=cosine(steps, max(1, round(options.recover_warmup * steps)), floor=0.0),
            modules={"model": model},
            state_dir=None if training.run is None else training.run / stage,
            **training.stage(model),
        )


def transcript_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """CTC loss against the transcripts, or against what the model itself hears where there are none."""
    labels = batch.labels
    if labels is None:
        blank = blank_id(model)
        heard = [torch.tensor(collapse(row, blank)) for row in frame_labels(model, batch.inputs)]
        labels = nn.utils.rnn.pad_sequence(heard, batch_first=True, padding_value=-100).long()
    return model(**batch.inputs, labels=labels).loss


def hardened(scales: Scales, plan: Plan) -> Scales:
    """The gates' values on what the plan keeps, zero elsewhere; a gate that stood at zero but is kept is opened.

    The search for the exact cost may bring back units whose gate was shut; folding that zero would keep dead weight.
    """
    units = {}
    for path, values in scales.units.items():
        mask = torch.zeros_like(values)
        mask[list(plan.kept[path])] = 1.0
        units[path] = torch.where(values > 0, values, torch.full_like(values, 0.05)) * mask
    branches = {
        path: torch.zeros_like(value) if path in plan.skipped else value.clamp_min(0.05)
        for path, value in scales.branches.items()
    }
    return Scales(units, branches)
