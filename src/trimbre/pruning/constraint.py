"""The size constraint on learned gates: Lagrange multipliers that are solved for after every step.

Gates are learned under the constraint `removed(gates) = target`. Gradient ascent on its multipliers (Wang et al. 2020)
integrates the error, so that they lag behind the ramp and then overshoot it. Here the constraint is met after every
step instead: the multipliers are the amounts by which the logits of all gates have to move along the budgets' prices
until the expected cost is the ramp's (Newton's method, from the last solution). This is projected gradient descent on
the logits: the gates that the loss needs most sink least.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trimbre.costs.cost import Budget
from trimbre.costs.prices import prices
from trimbre.pruning.gates import Gates, keep_probability
from trimbre.pruning.numerics import assign

SETTLED = 1e4
"""|log_alpha| from which a gate is fixed: protected, or closed for good."""
LONGEST = 2.0
"""Longest step of Newton's method on a multiplier: gates that are open or closed have hardly any gradient."""


@dataclass(frozen=True)
class Ramp:
    """A linear ramp of the share to remove: from `start` to `target` over `steps`, then held."""

    target: float
    steps: int
    start: float = 0.0
    """What is removed before anything is pruned: above zero where rows of the vocabulary are gone."""

    def __call__(self, step: int) -> float:
        """Share to remove after `step` steps, counted from 1."""
        return self.start + (self.target - self.start) * min(1.0, step / max(self.steps, 1))


class Multipliers:
    """Moves the logits of gates onto their target cost, after every step of their optimizer."""

    def __init__(self, gates: Gates, budgets: Sequence[Budget]):
        self.gates = gates
        self.budgets = budgets
        self.prices = prices(gates.anatomy, budgets)

    def removed(self) -> list[float]:
        """Expected share removed, of each budget."""
        with torch.no_grad():
            widths, opens = (value.cpu() for value in self.gates.expected())
            return [float(1 - budget.cost(widths, opens) / budget.dense) for budget in self.budgets]

    def meet(self, target: float) -> list[float]:
        """Shift the gates until every budget's expected share removed is `target`; return the shares reached."""
        units = self.gates.units.detach().cpu().double()
        branches = self.gates.branches.detach().cpu().double()
        free = (units.abs() < SETTLED).double().unsqueeze(1) * self.prices[self.gates.owner.cpu()]
        free_branches = (branches.abs() < SETTLED).double().unsqueeze(1) * self.prices
        shift = torch.zeros(len(self.budgets), dtype=torch.float64)
        best, residual = shift, self._residual(units, branches, target)
        for _ in range(50):
            if residual.abs().max() < 1e-6:
                break
            shift = best.clone().requires_grad_()
            misses = self._residual(units - free @ shift, branches - free_branches @ shift, target)
            slope = torch.stack([torch.autograd.grad(miss, shift, retain_graph=True)[0] for miss in misses])
            step = torch.linalg.lstsq(slope, misses.detach().unsqueeze(1)).solution.squeeze(1)
            step = step * min(1.0, LONGEST / float(step.abs().max()))  # the same direction: each miss has to shrink
            moved = False
            for damping in (1.0, 0.5, 0.25, 0.1, 0.03):
                trial = best - damping * step
                misses = self._residual(units - free @ trial, branches - free_branches @ trial, target)
                if misses.abs().sum() < residual.abs().sum():
                    best, residual, moved = trial, misses, True
                    break
            if not moved:
                break
        assign(self.gates.units, units - free @ best)
        assign(self.gates.branches, branches - free_branches @ best)
        return [target + float(miss) for miss in residual]

    def _residual(self, units: Tensor, branches: Tensor, target: float) -> Tensor:
        """(budgets,) expected share removed minus `target`."""
        keep = keep_probability(units)
        zeros = torch.zeros(len(self.gates.sizes), dtype=torch.float64)
        widths = zeros.index_add(0, self.gates.owner.cpu(), keep)
        opens = self.gates.held_open(keep_probability(branches))
        return torch.stack([1 - b.cost(widths, opens) / b.dense for b in self.budgets]) - target
