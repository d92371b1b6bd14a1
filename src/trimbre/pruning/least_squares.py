"""Weighted least squares for a projection: what is read, how much each frame counts, and a pull toward what is there.

Frames are not alike: what a model hears in silence it ignores, and what it makes of a word hangs on a few frames. The
loss's slopes g tell them apart: to second order it rises by what moves along them, and of the Kronecker factors of
E[x x^T (x) g g^T] the first that fits, given that all directions of g are alike, is E[|g|^2 x x^T] (Van Loan &
Pitsianis 1993), where E[x x^T] takes slopes to be the same at every frame.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

RIDGE = 3e-3
"""Pull toward the weights that are there, relative to the mean energy of the projection's inputs."""
EVEN = 0.5
"""Share of what a frame counts that doesn't go by its slopes: a few windows don't show all that may matter."""
STEEPEST = 20.0
"""Times the mean that slopes count for at most, so that no single frame decides."""
STRIP = 256
"""Columns of second moments that are multiplied at once."""


def frame_weights(slopes: Tensor) -> Tensor:
    """(frames,) what each frame counts, about one on average, by the loss's slopes over it, (frames, dim)."""
    energy = slopes.square().sum(-1)
    steep = energy / energy.mean().clamp_min(torch.finfo(energy.dtype).tiny)
    return EVEN + (1 - EVEN) * steep.clamp(max=STEEPEST)


def with_bias_column(inputs: Tensor) -> Tensor:
    """(frames, channels + 1): `inputs`, (frames, channels), and a one for the bias."""
    return torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)


def gram(rows: Tensor) -> Tensor:
    """(channels, channels) sums of x x^T over `rows`, (frames, channels); multiplied out above the diagonal only."""
    channels = rows.shape[1]
    sums = rows.new_empty(channels, channels)
    with torch.autocast(rows.device.type, enabled=False):  # a weak ridge bears no rounding to bfloat16
        for start in range(0, channels, STRIP):
            strip = rows[:, start : start + STRIP].T @ rows[:, start:]
            sums[start : start + STRIP, start:] = strip
            sums[start:, start : start + STRIP] = strip.T
    return sums


def with_ridge(inner: Tensor, ridge: float) -> Tensor:
    """(channels + 1, channels + 1): second moments of `with_bias_column` plus `ridge` times the mean energy."""
    pull = ridge * inner.diagonal()[:-1].mean()
    return inner + pull * torch.eye(len(inner), dtype=inner.dtype, device=inner.device)


class Correction:
    """How a projection's weights should move, as normal equations for what they still miss by.

    All in float64: with a weak ridge the system is near singular, and weights would move by what rounding missed.
    """

    def __init__(self, projection: Any, ridge: float, together: Callable[[Tensor], Tensor]):
        """Args as of `refit.refit`, which this is a part of."""
        self.projection, self.ridge, self.together = projection, ridge, together
        self.inner: Tensor | float = 0.0
        self.outer: Tensor | float = 0.0

    def add(self, inputs: Tensor, missed: Tensor, counts: Tensor | None) -> None:
        """(frames, channels), (frames, outputs) wanted less there, (frames,) what each counts; None: all the same."""
        x, missed = with_bias_column(inputs).double(), missed.double()
        if counts is not None:
            root = counts.sqrt().unsqueeze(1)
            x, missed = root * x, root * missed
        self.inner = self.inner + gram(x)
        self.outer = self.outer + x.T @ missed

    def apply(self) -> None:
        """Move the projection's weights."""
        assert isinstance(self.inner, Tensor)
        assert isinstance(self.outer, Tensor)
        system, outer = with_ridge(self.together(self.inner), self.ridge), self.together(self.outer)
        weight, bias = self.projection.weight, self.projection.bias
        if bias is None:
            system, outer = system[:-1, :-1], outer[:-1]
        moved = torch.linalg.solve(system, outer)
        channels = weight.flatten(1).shape[1]
        weight.add_(moved[:channels].T.reshape(weight.shape))
        if bias is not None:
            bias.add_(moved[-1])
        torch.clear_autocast_cache()  # of the weights as they were
