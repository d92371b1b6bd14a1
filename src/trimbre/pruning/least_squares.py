"""Weighted ridge regression of a projection's weights; frames are weighted by the squared gradient of the loss.

To second order the loss rises by what moves along its gradient g. Of the Kronecker factors of E[x x^T (x) g g^T], the
first that fits, if all directions of g are alike, is E[|g|^2 x x^T] (Van Loan & Pitsianis 1993), whereas E[x x^T]
takes the gradient to be the same at every frame: silence would weigh as much as speech.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trimbre.errors import UserError
from trimbre.pruning.numerics import assign, float64, near_float64

RIDGE = 3e-3
"""Weight of the ridge, relative to the mean energy of the projection's inputs."""
EVEN = 0.5
"""Share of a frame's weight that does not depend on its gradient: a few batches do not show all that may matter."""
STEEPEST = 20.0
"""Largest squared gradient of a frame, relative to the mean, so that no single frame decides."""
LEAST_PULL = 1e-30
"""Smallest ridge: inputs that are zero throughout would leave the system singular."""
STRIP = 256
"""Columns of second moments that are multiplied at once."""


def frame_weights(gradients: Tensor) -> Tensor:
    """(frames,) weights, about one on average, from the loss's gradients at them, (frames, dim)."""
    energy = gradients.square().sum(-1)
    steep = energy / energy.mean().clamp_min(torch.finfo(energy.dtype).tiny)
    return EVEN + (1 - EVEN) * steep.clamp(max=STEEPEST)


def with_bias_column(inputs: Tensor) -> Tensor:
    """(frames, channels + 1): `inputs`, (frames, channels), and a one for the bias."""
    return torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)


def gram(rows: Tensor) -> Tensor:
    """(channels, channels) sums of x x^T over `rows`, (frames, channels); only the upper triangle is multiplied out."""
    channels = rows.shape[1]
    sums = rows.new_empty(channels, channels)
    with torch.autocast(rows.device.type, enabled=False):  # rounding to bfloat16 would outweigh a weak ridge
        for start in range(0, channels, STRIP):
            strip = rows[:, start : start + STRIP].T @ rows[:, start:]
            sums[start : start + STRIP, start:] = strip
            sums[start:, start : start + STRIP] = strip.T
    return sums


def with_ridge(moments: Tensor, ridge: float) -> Tensor:
    """(channels + 1, channels + 1): second moments of `with_bias_column` plus `ridge` times the mean energy."""
    pull = (ridge * moments.diagonal()[:-1].mean()).clamp_min(LEAST_PULL)
    return moments + pull * torch.eye(len(moments), dtype=moments.dtype, device=moments.device)


class Correction:
    """The change of a projection's weights that minimises a weighted squared error, by its normal equations.

    All in float64: with a weak ridge the system is near singular, and rounding errors would move the weights.
    """

    def __init__(
        self,
        projection: Any,
        ridge: float,
        reduce_sum: Callable[[Tensor], Tensor] = lambda own: own,
        *,
        name: str = "a projection",
    ):
        """Start with empty sums.

        Args:
            projection: a linear layer or a convolution over single frames, with or without a bias.
            ridge: weight of the pull toward the weights as they are, relative to the mean energy of the inputs.
            reduce_sum: sums a tensor over the processes that add frames of their own.
            name: what errors call the projection.
        """
        self.projection, self.ridge, self.reduce_sum, self.name = projection, ridge, reduce_sum, name
        self.moments: Tensor | float = 0.0
        self.products: Tensor | float = 0.0

    def add(self, inputs: Tensor, missing: Tensor, weights: Tensor | None) -> None:
        """Add frames to the sums.

        Args:
            inputs: (frames, channels) of the projection.
            missing: (frames, outputs) wanted outputs less the present ones.
            weights: (frames,) of the squared errors; None weighs all alike.
        """
        x, missing = float64(with_bias_column(inputs)), float64(missing)
        if weights is not None:
            root = near_float64(weights.sqrt().unsqueeze(1))
            x, missing = root * x, root * missing
        self.moments = self.moments + gram(x)
        self.products = self.products + x.T @ missing

    def apply(self) -> None:
        """Change the projection's weight, and its bias if it has one, in place.

        Raises:
            UserError: there is no finite solution, as where a model's outputs are not finite.
        """
        assert isinstance(self.moments, Tensor)
        assert isinstance(self.products, Tensor)
        system, products = with_ridge(self.reduce_sum(self.moments), self.ridge), self.reduce_sum(self.products)
        weight, bias = self.projection.weight, self.projection.bias
        if bias is None:
            system, products = system[:-1, :-1], products[:-1]
        try:
            change = torch.linalg.solve(system, products)
        except torch.linalg.LinAlgError as error:
            raise self._without_solution() from error
        if not change.isfinite().all():
            raise self._without_solution()
        channels = weight.flatten(1).shape[1]
        assign(weight, float64(weight) + change[:channels].T.reshape(weight.shape))
        if bias is not None:
            assign(bias, float64(bias) + change[-1])
        torch.clear_autocast_cache()  # it holds the weights as they were

    def _without_solution(self) -> UserError:
        return UserError(
            f"the refit of {self.name} has no finite solution: check that the dense model's outputs on the training "
            "data are finite, or turn the refit off"
        )
