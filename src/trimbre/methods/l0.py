"""Learned L0 gates (Louizos et al. 2018; Jiang et al. 2023): train masks and weights together toward a target size."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimbre.anatomy import Anatomy
from trimbre.budget import Budget
from trimbre.data.batches import Batch
from trimbre.distill import Objective, undisturbed
from trimbre.gates import Gates, gated, keep_probability
from trimbre.lagrangian import SETTLED, Multipliers, Ramp
from trimbre.loop import FitResult, fit
from trimbre.methods.taylor import Importance, importance, seed_from_ranks
from trimbre.options import GateOptions
from trimbre.plan import Plan
from trimbre.search import plan_for_target


def start_gates(
    model: PreTrainedModel,
    anatomy: Anatomy,
    budgets: Sequence[Budget],
    *,
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
    protected: Tensor,
    options: GateOptions,
    accelerator: Accelerator,
) -> Gates:
    """Gates that harm nothing yet, in the order of their Taylor ranks; protected ones open for good.

    Several processes bring `batches` of their own and get the same gates.
    """
    gates = Gates(anatomy).to(model.device)
    if options.spread > 0:
        scores = importance(model, anatomy, batches, loss)
        mean = partial(accelerator.reduce, reduction="mean")
        scores = Importance(mean(scores.units), mean(scores.branches))
        seed_from_ranks(gates, scores, budgets, spread=options.spread)
    with torch.no_grad():
        gates.units[protected[gates.owner.cpu()].to(gates.units.device)] = SETTLED
        gates.branches[protected.to(gates.branches.device)] = SETTLED
    return gates


def plan_from_gates(
    anatomy: Anatomy,
    gates: Gates,
    budgets: Sequence[Budget],
    *,
    target: float,
    protected: Tensor,
    multiple_of: int,
) -> tuple[Plan, float]:
    """The plan of exact cost nearest to what the gates say, and the share of units that it decides otherwise."""
    units, branches = gates.units.detach().cpu(), gates.branches.detach().cpu()
    owner = gates.owner.cpu()
    open_branch = keep_probability(branches) > 0.5
    # Measured from the point where a unit is as likely kept as not, so that the search starts where learning ended.
    scores = keep_probability(units).clamp(1e-6, 1 - 1e-6).logit().split(gates.sizes)
    plan = plan_for_target(
        anatomy,
        dict(zip(anatomy.sizes, scores, strict=True)),
        skipped=frozenset(
            g.path for g, is_open in zip(anatomy.groups, open_branch.tolist(), strict=True) if not is_open
        ),
        budgets=budgets,
        target=target,
        prices=Multipliers(gates, budgets).prices,
        protected=protected,
        multiple_of=multiple_of,
    )
    said = (keep_probability(units) > 0.5) & open_branch[owner]
    masks = [
        torch.zeros(size).index_fill_(0, torch.tensor(plan.kept[path], dtype=torch.long), 1.0)
        for path, size in plan.sizes.items()
    ]
    return plan, float((said != torch.cat(masks).bool()).double().mean())


def learn(
    model: PreTrainedModel,
    gates: Gates,
    budgets: Sequence[Budget],
    *,
    target: float,
    steps: int,
    objective: Objective,
    options: GateOptions,
    batches: Callable[[int], Iterator[Batch]],
    accelerator: Accelerator,
    **loop: Any,
) -> FitResult:
    """Train gates and weights jointly while the multipliers hold the expected cost to its ramp.

    `loop` goes to `loop.fit` (seed, state_dir, validate, progress, ...).
    """
    multipliers = Multipliers(gates, budgets)
    ramp = Ramp(target, max(1, round(options.ramp * steps)))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizers = [
        torch.optim.AdamW(weights, lr=options.weight_rate, weight_decay=1e-3),
        torch.optim.Adam(gates.parameters(), lr=options.gate_rate, betas=(0.9, 0.99)),
    ]

    def hold(step: int) -> Mapping[str, float]:
        wanted = ramp(step)
        reached = multipliers.meet(wanted)
        return {"removed": min(reached), "target": wanted}

    modules: dict[str, nn.Module] = {"model": model, "gates": gates}
    with gated(model, gates), undisturbed(model):
        model.train()
        return fit(
            stage="learn",
            steps=steps,
            batches=batches,
            objective=objective,
            optimizers=optimizers,
            modules=modules,
            accelerator=accelerator,
            on_step=hold,
            **loop,
        )
