"""The data arguments of public functions, with a name for reports."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lhotse import CutSet

from trimbre.data.cuts import CutsLike, read_cuts

IN_MEMORY = "cuts in memory"
"""Name of a set that came without a path."""


class NamedCuts(NamedTuple):
    """A set of utterances and the name that reports and messages give it."""

    name: str
    cuts: CutSet


def resolve_cuts(option: str, data: CutsLike, *, allow_outside: bool = False, repeated: bool = False) -> NamedCuts:
    """Read cuts from a path, or take those in memory, and name them; the arguments are those of `read_cuts`.

    A path that is given twice is refused unless `repeated`: in an evaluation its utterances would count twice.

    Raises:
        UserError: nothing that can be read is there.
    """
    paths = [data] if isinstance(data, str | Path) else data
    by_path = isinstance(paths, Sequence) and bool(paths) and all(isinstance(one, str | Path) for one in paths)
    name = ",".join(map(str, paths)) if by_path else IN_MEMORY
    return NamedCuts(name, read_cuts(data, option=option, allow_outside=allow_outside, repeated=repeated))
