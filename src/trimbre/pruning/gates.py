"""Hard-concrete gates on every unit and every branch (Louizos et al. 2018; joint coarse and fine: Xia et al. 2022)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trimbre.models.anatomy import Anatomy, Group
from trimbre.models.families.registry import head_of
from trimbre.models.hookable import hookable
from trimbre.pruning.numerics import assign, float64
from trimbre.pruning.surgery import GateValues

GAMMA, ZETA, BETA = -0.1, 1.1, 2 / 3
KEEP_SHIFT = -BETA * math.log(-GAMMA / ZETA)
"""P(z != 0) = sigmoid(log_alpha + KEEP_SHIFT)."""
UNHARMED = 4.0
"""Initial log_alpha: P(keep) = 0.996, so that the gates do not damage a trained model."""


def keep_probability(log_alpha: Tensor) -> Tensor:
    """P(z != 0), elementwise."""
    return torch.sigmoid(log_alpha + KEEP_SHIFT)


def deterministic(log_alpha: Tensor) -> Tensor:
    """The noiseless value of a gate, in [0, 1], elementwise."""
    return (torch.sigmoid(log_alpha) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def sample(log_alpha: Tensor) -> Tensor:
    """A sample of the hard-concrete gate, in [0, 1], differentiable in `log_alpha`, elementwise."""
    noise = torch.empty_like(log_alpha).uniform_(1e-6, 1 - 1e-6)
    stretched = torch.sigmoid((noise.logit() + log_alpha) / BETA) * (ZETA - GAMMA) + GAMMA
    return stretched.clamp(0, 1)


class Gates(nn.Module):
    """One gate for every unit and one for every branch of a model, as two flat vectors.

    A unit survives only if its branch does: P(unit) = P(unit's gate) P(branch's gate).
    """

    def __init__(self, anatomy: Anatomy, *, sampled: bool = True):
        """Make open gates, which change nothing yet.

        Args:
            sampled: sample the gates in train mode; False uses their noiseless values there too.
        """
        super().__init__()
        self.anatomy = anatomy
        self.sampled = sampled
        self.groups = anatomy.groups
        self.sizes = [group.size for group in anatomy.groups]
        self.units = nn.Parameter(torch.full((sum(self.sizes),), UNHARMED))
        self.branches = nn.Parameter(torch.full((len(self.groups),), UNHARMED))
        self.owner = nn.Buffer(anatomy.owner, persistent=False)
        """(units,) index of the group that each unit belongs to."""
        self.skippable = nn.Buffer(torch.tensor([group.skippable for group in anatomy.groups]), persistent=False)
        """(groups,) bool: which can leave altogether. The branch gates of the others stay open."""
        self._values: tuple[tuple[Tensor, ...], Tensor] | None = None

    def draw(self, *, noise: bool) -> None:
        """Set the values that the hooks multiply by: samples, or the noiseless values."""
        gate = sample if noise else deterministic
        self._values = (gate(self.units).split(self.sizes), self.held_open(gate(self.branches)))

    def values(self, position: int) -> tuple[Tensor, Tensor]:
        """The drawn values of the group at `position`: (units,) and a scalar."""
        assert self._values is not None
        return self._values[0][position], self._values[1][position]

    def expected(self) -> tuple[Tensor, Tensor]:
        """Expected width of every group while it is there, and its survival: (groups,) float64 each."""
        keep, survival = keep_probability(float64(self.units)), keep_probability(float64(self.branches))
        owner = self.owner.to(keep.device)
        widths = torch.zeros(len(self.sizes), dtype=keep.dtype, device=keep.device).index_add(0, owner, keep)
        return widths, self.held_open(survival)

    def held_open(self, branches: Tensor) -> Tensor:
        """Values of the branch gates, one where a group cannot be skipped."""
        return torch.where(self.skippable.to(branches.device), branches, torch.ones_like(branches))

    def noiseless(self) -> GateValues:
        """The noiseless values, which a cut folds into the weights."""
        units = deterministic(self.units.detach()).split(self.sizes)
        branches = self.held_open(deterministic(self.branches.detach()))
        paths = [group.path for group in self.groups]
        return GateValues(dict(zip(paths, units, strict=True)), dict(zip(paths, branches, strict=True)))

    @torch.no_grad()
    def set_values(self, values: GateValues) -> None:
        """Set the noiseless values; 0 closes a gate for good, 1 opens it for good."""
        units = torch.cat([values.units[group.path] for group in self.groups])
        branches = torch.stack([values.branches[group.path] for group in self.groups])
        for parameter, value in ((self.units, units), (self.branches, branches)):
            value = float64(value)
            sigmoid = ((value - GAMMA) / (ZETA - GAMMA)).clamp(0, 1)
            log_alpha = torch.logit(sigmoid)
            log_alpha[value <= 0] = -1e4
            log_alpha[value >= 1] = 1e4
            assign(parameter, log_alpha)


@contextmanager
def gated(model: nn.Module, gates: Gates) -> Iterator[Gates]:
    """Put the gates into the forward of `model`; on leaving, the model is as it was before.

    Within the context, every forward of training draws the gates anew: with noise in train mode, if they are sampled.
    """
    start = model.get_submodule(head_of(model).entry)
    handles = [start.register_forward_pre_hook(lambda module, args: _draw(gates, module))]
    # generate() calls encoder and decoder separately, without a forward of the model around them.
    for group in gates.groups[:1]:
        entry = model.get_submodule(group.consumer)
        handles.append(entry.register_forward_pre_hook(lambda module, args: _draw_in_eval(gates, module)))
    try:
        for position, group in enumerate(gates.groups):
            consumer = model.get_submodule(group.consumer)
            handles.append(consumer.register_forward_pre_hook(_unit_hook(gates, position, group)))
            handles.append(consumer.register_forward_hook(_branch_hook(gates, position)))
        with hookable(model):
            yield gates
    finally:
        for handle in handles:
            handle.remove()
        gates._values = None


def _draw(gates: Gates, module: nn.Module) -> None:
    gates.draw(noise=module.training and gates.sampled)


def _draw_in_eval(gates: Gates, module: nn.Module) -> None:
    if not module.training:
        _draw(gates, module)


def _unit_hook(gates: Gates, position: int, group: Group) -> Any:
    def multiply(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = args
        gate = gates.values(position)[0].to(hidden.dtype)
        if group.kind.rows > 1:
            gate = gate.repeat_interleave(group.kind.rows)
        shape = [1] * hidden.dim()
        shape[group.kind.channel_axis] = -1
        return (hidden * gate.reshape(shape), *rest)

    return multiply


def _branch_hook(gates: Gates, position: int) -> Any:
    def multiply(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output * gates.values(position)[1].to(output.dtype)

    return multiply
