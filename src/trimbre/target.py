"""What a user asks to be removed, and how near a plan comes to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from trimbre.anatomy import Anatomy
from trimbre.budget import Budget
from trimbre.budget.macs import macs_budget, reference_of
from trimbre.budget.params import params_budget
from trimbre.options import BUDGETS, Target, one_of
from trimbre.plan import Plan
from trimbre.search import TOLERANCE


@dataclass(frozen=True)
class Ledger:
    """Every budget of a model in every scope."""

    budgets: Mapping[tuple[str, str], Budget]
    """(`params` or `macs`, scope) -> budget"""

    @classmethod
    def of(cls, model: PreTrainedModel, anatomy: Anatomy, processor: ProcessorMixin) -> "Ledger":
        """Measure `model` as it stands."""
        reference = reference_of(model, processor)
        return cls(
            {("params", scope): params_budget(model, anatomy, scope=scope) for scope in anatomy.scopes}
            | {("macs", scope): macs_budget(model, anatomy, reference, scope=scope) for scope in anatomy.scopes}
        )

    @property
    def scopes(self) -> tuple[str, ...]:
        """What a share may be of, in the family's order."""
        return tuple(scope for name, scope in self.budgets if name == "params")

    def asked(self, target: Target) -> list[Budget]:
        """The budgets that a target speaks of; raises UserError for a scope that the family hasn't."""
        one_of("of", target.of, self.scopes)
        return [self.budgets[name, target.of] for name in BUDGETS[target.budget]]

    def shares(self, plan: Plan) -> dict[str, dict[str, float]]:
        """Share removed by `plan`, by budget and scope."""
        return {
            name: {scope: self.budgets[name, scope].removed(plan) for scope in self.scopes}
            for name in ("params", "macs")
        }

    def dense(self) -> dict[str, dict[str, float]]:
        """Parameters and multiply-accumulates per second of audio before the cut, by scope."""
        return {name: {s: self.budgets[name, s].dense for s in self.scopes} for name in ("params", "macs")}


def shortfall(target: Target, budgets: list[Budget], plan: Plan) -> str | None:
    """A sentence that says how far `plan` misses the target, or None within half a point; pruning nothing is a miss."""
    if not plan.changes:
        return f"asked to remove {target.remove:.1%}, and nothing was pruned: ask for more"
    missed = [
        f"{budget.removed(plan):.1%} of {budget.title}"
        for budget in budgets
        if abs(budget.removed(plan) - target.remove) > TOLERANCE
    ]
    return f"asked to remove {target.remove:.1%}, removed {' and '.join(missed)}" if missed else None


def describe(ledger: Ledger, anatomy: Anatomy) -> dict[str, Any]:
    """What can be cut and what each kind weighs, as plain data."""
    kinds: dict[str, Any] = {}
    for name, kind in anatomy.kinds.items():
        groups = [(i, g) for i, g in enumerate(anatomy.groups) if g.kind.name == name]
        shares = {}
        for budget_name in ("params", "macs"):
            budget = ledger.budgets[budget_name, "blocks"]
            cost = sum(float(budget.cost.branch[i] + budget.cost.unit[i] * g.size) for i, g in groups)
            shares[budget_name] = cost / budget.dense
        kinds[name] = {
            "unit": kind.unit,
            "modules": len(groups),
            "units": sum(group.size for _, group in groups),
            "share_of_blocks": shares,
        }
    return {"dense": ledger.dense(), "kinds": kinds}
