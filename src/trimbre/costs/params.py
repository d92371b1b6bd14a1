"""Parameter budgets: how many parameters leave with each group."""

from torch import nn

from trimbre.costs.cost import Budget, accumulate, owner_of, owners
from trimbre.models.anatomy import Anatomy


def params_budget(model: nn.Module, anatomy: Anatomy, *, scope: str = "blocks") -> Budget:
    """Count every parameter once, attributed to the group that it leaves with; exact for cut models too."""
    prefixes = owners(anatomy)
    tensors = {name: (float(p.numel()), *owner_of(name, prefixes)) for name, p in model.named_parameters()}
    dense = sum(cost for name, (cost, *_) in tensors.items() if name.startswith(anatomy.scopes[scope]))
    return Budget("params", scope, accumulate(anatomy, tensors, scope), dense)
