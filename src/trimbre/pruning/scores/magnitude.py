"""Magnitude scores: the norm of all weights that leave with a unit (Li et al. 2017)."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.models.anatomy import Anatomy


@torch.no_grad()
def magnitude_scores(model: PreTrainedModel, anatomy: Anatomy) -> Tensor:
    """(units,) float64: L2 norm of the parameters that leave with each unit; buffers do not count."""
    found = []
    for group in anatomy.groups:
        squares = torch.zeros(group.size, dtype=torch.float64)
        parameters = dict(model.get_submodule(group.home).named_parameters())
        for row in group.kind.slices:
            if row.tensor not in parameters:
                continue
            entries = parameters[row.tensor].detach().cpu().double().movedim(row.axis, 0)
            squares += entries.reshape(row.repeats, group.size, -1).square().sum((0, 2))
        found.append(squares.sqrt())
    return torch.cat(found)
