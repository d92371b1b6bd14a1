"""What a user asks to be removed, and how near a plan comes to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.config import BUDGETS, TargetConfig
from trimbre.costs.cost import Budget
from trimbre.costs.latency import LatencyTable, latency_budget
from trimbre.costs.macs import macs_budget, reference_of
from trimbre.costs.params import params_budget
from trimbre.errors import UserError, one_of
from trimbre.models.anatomy import Anatomy
from trimbre.plan import Plan
from trimbre.pruning.allocation import TOLERANCE, smallest


@dataclass(frozen=True)
class ModelCosts:
    """Every budget of a model in every scope."""

    budgets: Mapping[tuple[str, str], Budget]
    """(`params`, `macs` or, where there is a table, `latency`; scope) -> budget"""
    table: LatencyTable | None = None
    """Where time was measured."""

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        anatomy: Anatomy,
        processor: ProcessorMixin,
        table: LatencyTable | None = None,
    ) -> "ModelCosts":
        """Measure `model` as it stands; its time by a table, where one is given."""
        reference = reference_of(model, processor)
        budgets = {("params", scope): params_budget(model, anatomy, scope=scope) for scope in anatomy.scopes}
        budgets |= {("macs", scope): macs_budget(model, anatomy, reference, scope=scope) for scope in anatomy.scopes}
        if table is not None:
            budgets |= {("latency", scope): latency_budget(table, anatomy, scope=scope) for scope in anatomy.scopes}
        return cls(budgets, table)

    @property
    def names(self) -> tuple[str, ...]:
        """What is counted."""
        return tuple(dict.fromkeys(name for name, _ in self.budgets))

    @property
    def scopes(self) -> tuple[str, ...]:
        """What a share may be of, in the family's order."""
        return tuple(dict.fromkeys(scope for _, scope in self.budgets))

    def asked(self, target: TargetConfig) -> list[Budget]:
        """The budgets that a target speaks of; raises UserError for a scope that the family hasn't."""
        one_of("of", target.of, self.scopes, owner="TargetConfig")
        return [self.budgets[name, target.of] for name in BUDGETS[target.budget]]

    def resolve_target(self, target: TargetConfig, anatomy: Anatomy, protected: Tensor) -> TargetConfig:
        """The target as a share, where a time was asked for.

        Args:
            protected: (groups,) bool: what may not be cut.

        Raises:
            UserError: the model is as fast as that already, or what may not be cut takes longer.
        """
        if target.rtf is None:
            return target
        budget = self.budgets["latency", "model"]
        least = float(budget.cost(*smallest(anatomy, protected))) + 1.01 * TOLERANCE * budget.dense
        asked = f"--rtf {target.rtf:g}: in {self.words} the model takes {budget.dense:.3g} seconds per second of audio"
        if target.rtf >= budget.dense:
            raise UserError(f"{asked} as it is, so that nothing need leave: ask for less")
        if target.rtf < least:
            raise UserError(f"{asked}, and {least:.3g} with all gone that may be cut: ask for that or more")
        return TargetConfig(remove=1 - target.rtf / budget.dense, budget="latency", of="model")

    @property
    def words(self) -> str:
        """Where time was measured."""
        assert self.table is not None
        threads = f"{self.table.threads} thread{'s' if self.table.threads > 1 else ''}"
        return f"{self.table.runtime} on {threads} of {self.table.machine['processor']}"

    def shares(self, plan: Plan) -> dict[str, dict[str, float]]:
        """Share removed by `plan`, by budget and scope."""
        return {name: {s: self.budgets[name, s].removed(plan) for s in self.scopes} for name in self.names}

    def dense(self) -> dict[str, dict[str, float]]:
        """Parameters, and multiply-accumulates and seconds per second of audio, before the cut, by scope."""
        return {name: {s: self.budgets[name, s].dense for s in self.scopes} for name in self.names}


def shortfall(target: TargetConfig, budgets: list[Budget], plan: Plan) -> str | None:
    """A sentence that says how far `plan` misses the target, or None within half a point; pruning nothing is a miss."""
    if not plan.changes:
        return f"asked to remove {target.remove:.1%}, and nothing was pruned: ask for more"
    missed = [
        f"{budget.removed(plan):.1%} of {budget.title}"
        for budget in budgets
        if abs(budget.removed(plan) - target.remove) > TOLERANCE
    ]
    return f"asked to remove {target.remove:.1%}, removed {' and '.join(missed)}" if missed else None


def missed_time(found: Mapping[str, Any]) -> str | None:
    """A sentence where the clock says that a pruned model takes over a tenth longer than was asked for.

    What was measured is set against the unpruned model in the same minutes, so that a busy machine is none's fault.
    """
    if found["asked"] is None or found["measured"] is None:
        return None
    reached = found["measured"]["share"] * found["unpruned"]
    if reached <= 1.1 * found["asked"]:
        return None
    return f"asked for --rtf {found['asked']:g}, and the pruned model takes {reached:.3g} seconds per second of audio"


def describe(ledger: ModelCosts, anatomy: Anatomy) -> dict[str, Any]:
    """What can be cut and what each kind weighs, as plain data."""
    kinds: dict[str, Any] = {}
    for name, kind in anatomy.kinds.items():
        groups = [(i, g) for i, g in enumerate(anatomy.groups) if g.kind.name == name]
        shares = {}
        for budget_name in ledger.names:
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
