"""First-order Taylor scores: how much the loss changes when a unit's output is removed (Molchanov et al. 2019)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.models.anatomy import Anatomy
from trimbre.pruning.frozen import frozen_eval
from trimbre.pruning.gates import Gates, gated


class Probe(Gates):
    """Gates at exactly 1 that only collect gradients."""

    def __init__(self, anatomy: Anatomy):
        super().__init__(anatomy)
        with torch.no_grad():
            self.units.fill_(1.0)
            self.branches.fill_(1.0)

    def draw(self, *, noise: bool) -> None:
        self._values = (self.units.split(self.sizes), self.branches)


def taylor_scores(
    model: PreTrainedModel, anatomy: Anatomy, batches: Iterable[Any], loss: Callable[[Any], Tensor]
) -> Tensor:
    """(units,) squared gradients of `loss(batch)` with respect to each unit's gate, mean over `batches`.

    The model is run in eval mode and left as it was.

    Args:
        batches: calibration batches.
        loss: of `model` on a batch. It must not be at its minimum: cross-entropy against transcripts (the teacher's
            own where there are none), and not the distance to the teacher.
    """
    probe = Probe(anatomy).to(model.device)
    units = torch.zeros_like(probe.units)
    count = 0
    with frozen_eval(model), gated(model, probe):
        for batch in batches:
            units += torch.autograd.grad(loss(batch), probe.units)[0].square()
            count += 1
    return units / max(count, 1)
