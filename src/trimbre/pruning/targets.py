"""Pruning targets: the costs of a model, the share of them to remove, and how near a plan comes to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.config import BUDGETS, TargetConfig
from trimbre.costs.cost import Budget
from trimbre.costs.latency import LatencyTable, latency_budget
from trimbre.costs.macs import macs_budget, reference_of
from trimbre.costs.params import params_budget
from trimbre.errors import OptionError, one_of
from trimbre.models.anatomy import Anatomy
from trimbre.plan import Plan
from trimbre.pruning.allocation import TOLERANCE, smallest


@dataclass(frozen=True)
class ModelCosts:
    """Every budget of a model, in every scope."""

    budgets: Mapping[tuple[str, str], Budget]
    """(`params`, `macs` or, where there is a table, `latency`; scope) -> budget"""
    table: LatencyTable | None = None
    """The table that latency comes from, if there is one."""

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        anatomy: Anatomy,
        processor: ProcessorMixin,
        table: LatencyTable | None = None,
    ) -> "ModelCosts":
        """Count the parameters and MACs of `model`, which stays as it was; look its latency up in a table, if given."""
        reference = reference_of(model, processor)
        budgets = {("params", scope): params_budget(model, anatomy, scope=scope) for scope in anatomy.scopes}
        budgets |= {("macs", scope): macs_budget(model, anatomy, reference, scope=scope) for scope in anatomy.scopes}
        if table is not None:
            timed = [s for s in anatomy.scopes if any(group.residual for group in anatomy.within(s))]
            budgets |= {("latency", scope): latency_budget(table, anatomy, scope=scope) for scope in timed}
        return cls(budgets, table)

    def relative_to(self, whole: "ModelCosts") -> "ModelCosts":
        """The same costs, whose shares are of those of the model that this one was before rows of it were removed."""
        budgets = {key: replace(budget, dense=whole.budgets[key].dense) for key, budget in self.budgets.items()}
        return replace(self, budgets=budgets)

    @property
    def names(self) -> tuple[str, ...]:
        """The budgets' names: `params`, `macs` and, where there is a table, `latency`."""
        return tuple(dict.fromkeys(name for name, _ in self.budgets))

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that a share may refer to, in the family's order."""
        return tuple(dict.fromkeys(scope for _, scope in self.budgets))

    def budgets_for(self, target: TargetConfig) -> list[Budget]:
        """The budgets that a target refers to; raises OptionError for a scope that the family has not."""
        names = BUDGETS[target.budget]
        counted = tuple(scope for scope in self.scopes if all((name, scope) in self.budgets for name in names))
        one_of("of", target.of, counted, owner="TargetConfig")
        return [self.budgets[name, target.of] for name in names]

    def resolve_target(self, target: TargetConfig, anatomy: Anatomy, protected: Tensor) -> TargetConfig:
        """The target as a share of the latency, where it is a real-time factor.

        Args:
            protected: (groups,) bool: groups that stay whole.

        Raises:
            OptionError: the dense model is as fast as that already, or what may not be cut takes longer.
        """
        if target.rtf is None:
            return target
        budget = self.budgets["latency", "model"]
        least = float(budget.cost(*smallest(anatomy, protected))) + 1.01 * TOLERANCE * budget.dense
        takes = f"in {self.measured_in} the model takes {budget.dense:.3g} seconds per second of audio"
        if target.rtf >= budget.dense:
            advice = f"{takes} as it is, so that nothing has to be cut: ask for less"
            raise OptionError("rtf", target.rtf, advice, owner="TargetConfig")
        if target.rtf < least:
            advice = f"{takes}, and {least:.3g} without all that may be cut: ask for that or more"
            raise OptionError("rtf", target.rtf, advice, owner="TargetConfig")
        return TargetConfig(remove=1 - target.rtf / budget.dense, budget="latency", of="model")

    @property
    def measured_in(self) -> str:
        """Runtime, threads and processor that latency was measured with, in words."""
        assert self.table is not None
        threads = f"{self.table.threads} thread{'s' if self.table.threads > 1 else ''}"
        return f"{self.table.runtime} on {threads} of {self.table.machine['processor']}"

    def shares(self, plan: Plan) -> dict[str, dict[str, float]]:
        """Budget -> scope -> share of the dense cost that `plan` removes."""
        return self._by_scope(lambda budget: budget.removed(plan))

    def dense(self) -> dict[str, dict[str, float]]:
        """Budget -> scope -> cost before the cut: parameters, or MACs or seconds per second of audio."""
        return self._by_scope(lambda budget: budget.dense)

    def _by_scope(self, figure: Callable[[Budget], float]) -> dict[str, dict[str, float]]:
        """Budget -> scope -> a figure of it; time is not counted for a front end alone."""
        found: dict[str, dict[str, float]] = {name: {} for name in self.names}
        for (name, scope), budget in self.budgets.items():
            found[name][scope] = figure(budget)
        return found


def shortfall(target: TargetConfig, budgets: list[Budget], plan: Plan) -> str | None:
    """A sentence on how far `plan` misses the target; None within half a point. A plan that cuts nothing is a miss."""
    if not target.remove:
        return None
    if not plan.changes:
        return f"asked to remove {target.remove:.1%}, and nothing was pruned: ask for more"
    missed = [
        f"{budget.removed(plan):.1%} of {budget.title}"
        for budget in budgets
        if abs(budget.removed(plan) - target.remove) > TOLERANCE
    ]
    return f"asked to remove {target.remove:.1%}, removed {' and '.join(missed)}" if missed else None


def missed_time(found: Mapping[str, Any]) -> str | None:
    """A sentence if the pruned model was measured to take over a tenth longer than the target; None otherwise.

    The time is scaled by the dense model's, measured in the same minutes, so that load on the machine cancels.
    """
    if found["asked"] is None or found["measured"] is None:
        return None
    reached = found["measured"]["share"] * found["unpruned"]
    if reached <= 1.1 * found["asked"]:
        return None
    return f"the target is {found['asked']:g} seconds per second of audio, and the pruned model takes {reached:.3g}"


def describe(costs: ModelCosts, anatomy: Anatomy) -> dict[str, Any]:
    """The kinds of units that can be cut, and the share of the blocks' cost that each makes up, as plain data."""
    kinds: dict[str, Any] = {}
    for name, kind in anatomy.kinds.items():
        groups = [(i, g) for i, g in enumerate(anatomy.groups) if g.kind.name == name]
        shares = {}
        for name_of_budget in costs.names:
            budget = costs.budgets[name_of_budget, "blocks"]
            cost = sum(float(budget.cost.branch[i] + budget.cost.unit[i] * g.size) for i, g in groups)
            shares[name_of_budget] = cost / budget.dense
        kinds[name] = {
            "unit": kind.unit,
            "modules": len(groups),
            "units": sum(group.size for _, group in groups),
            "share_of_blocks": shares,
        }
    found = {"dense": costs.dense(), "kinds": kinds}
    if (rows := anatomy.rows) is None:
        return found
    share = rows.tokens * rows.parameters / costs.budgets["params", "model"].dense
    return found | {"vocabulary": {"tokens": rows.tokens, "share_of_parameters": share}}
