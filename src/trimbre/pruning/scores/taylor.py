"""First-order importance: how much the loss would change if a unit's output were removed (Molchanov et al. 2019)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.models.anatomy import Anatomy
from trimbre.pruning.gates import Gates, gated


class Probe(Gates):
    """Gates that stand at exactly 1 and only collect gradients."""

    def __init__(self, anatomy: Anatomy):
        super().__init__(anatomy)
        with torch.no_grad():
            self.units.fill_(1.0)
            self.branches.fill_(1.0)

    def draw(self, *, noise: bool) -> None:
        self._values = (self.units.split(self.sizes), self.branches)


def importance(
    model: PreTrainedModel, anatomy: Anatomy, batches: Iterable[Any], loss: Callable[[Any], Tensor]
) -> Tensor:
    """(units,) squared gate gradients of `loss(batch)`, mean over `batches`; the model's weights are left alone.

    The loss must not be at its minimum: cross-entropy against transcripts (the teacher's own where there are none),
    not the distance to the teacher.
    """
    probe = Probe(anatomy).to(model.device)
    units = torch.zeros_like(probe.units)
    count = 0
    with frozen_eval(model), gated(model, probe):
        for batch in batches:
            units += torch.autograd.grad(loss(batch), probe.units)[0].square()
            count += 1
    return units / max(count, 1)


@contextmanager
def frozen_eval(model: PreTrainedModel) -> Iterator[None]:
    """In eval mode and without a gradient of its weights; on leaving, the model is as it was before."""
    learnable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = model.training
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learnable:
            parameter.requires_grad_(True)
        model.train(training)
