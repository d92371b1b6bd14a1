"""The data arguments of public functions: manifests and folders by path, or lhotse cuts in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from lhotse import CutSet
from lhotse.cut import Cut

from trimbre.data.cuts import read_cuts
from trimbre.errors import OptionError

CutsLike: TypeAlias = str | Path | CutSet | Sequence[Cut]
IN_MEMORY = "cuts in memory"
"""Name of a set that came without a path."""


class NamedCuts(NamedTuple):
    """A set of utterances and the name that reports and messages give it."""

    name: str
    cuts: CutSet


def resolve_cuts(option: str, data: CutsLike, *, allow_outside: bool = False) -> NamedCuts:
    """Read cuts from a path (several joined by commas), or take those in memory as they are.

    Args:
        option: name of the argument, for messages.
        allow_outside: as in `read_cuts`.

    Raises:
        UserError: nothing readable is there.
    """
    if isinstance(data, str | Path):
        return NamedCuts(str(data), read_cuts(data, allow_outside=allow_outside))
    if isinstance(data, CutSet):
        return NamedCuts(IN_MEMORY, data)
    cuts = list(data) if isinstance(data, Sequence) else None
    if not cuts or not all(isinstance(cut, Cut) for cut in cuts):
        raise OptionError(option, type(data).__name__, "give a path, a CutSet of lhotse or a sequence of its cuts")
    return NamedCuts(IN_MEMORY, CutSet.from_cuts(cuts))
