"""First-order importance: how much the loss would change if a unit's output were removed (Molchanov et al. 2019)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.anatomy import Anatomy
from trimbre.gates import Gates, gated


class Probe(Gates):
    """Gates that stand at exactly 1 and only collect gradients."""

    def __init__(self, anatomy: Anatomy):
        super().__init__(anatomy)
        with torch.no_grad():
            self.units.fill_(1.0)
            self.branches.fill_(1.0)

    def draw(self, *, noise: bool) -> None:
        self._values = (self.units.split(self.sizes), self.branches)


@dataclass(frozen=True)
class Importance:
    """Mean squared gradient of the loss with respect to each gate."""

    units: Tensor
    """(units,) of all groups in a row."""
    branches: Tensor
    """(groups,)"""


def importance(
    model: PreTrainedModel, anatomy: Anatomy, batches: Iterable[Any], loss: Callable[[Any], Tensor]
) -> Importance:
    """Average the squared gate gradients of `loss(batch)` over `batches`; the model's weights are left alone.

    The loss must not be at its minimum: cross-entropy against transcripts (the teacher's own where there are none),
    not the distance to the teacher.
    """
    probe = Probe(anatomy).to(model.device)
    units, branches = torch.zeros_like(probe.units), torch.zeros_like(probe.branches)
    learnable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = model.training
    model.eval().requires_grad_(False)
    count = 0
    try:
        with gated(model, probe):
            for batch in batches:
                gradients = torch.autograd.grad(loss(batch), (probe.units, probe.branches))
                units += gradients[0].square()
                branches += gradients[1].square()
                count += 1
    finally:
        for parameter in learnable:
            parameter.requires_grad_(True)
        model.train(training)
    return Importance(units / max(count, 1), branches / max(count, 1))
