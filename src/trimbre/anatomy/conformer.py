"""What the Conformers have in common: blocks of residual branches, each a module with a norm before it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import nn

from trimbre.anatomy import Group, Kind
from trimbre.modeling_trimbre import BiasOnly, Skipped


class Branch(NamedTuple):
    """One residual branch, by names within its block; see `Group`."""

    name: str
    norm: str | None
    after: str
    kind: Callable[[Any], Kind]
    """The branch's module -> its kind."""


def groups_of(blocks: Iterable[nn.Module], path: str, branches: Sequence[Branch]) -> Iterator[Group]:
    """The groups of the `blocks` at `path`, in the order of the forward pass, without those that are gone."""
    for layer, block in enumerate(blocks):
        home = f"{path}.{layer}"
        for branch in branches:
            module: Any = getattr(block, branch.name)
            if isinstance(module, Skipped | BiasOnly):
                continue
            kind = branch.kind(module)
            size = module.get_submodule(kind.consumer).weight.shape[1] // kind.rows
            norm = branch.norm and f"{home}.{branch.norm}"
            yield Group(f"{home}.{branch.name}", kind, layer, size, norm, f"{home}.{branch.after}")
