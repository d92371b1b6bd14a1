"""The Plan: which units of every prunable module are kept, which modules are skipped, and which tokens are kept.

Everything else either makes a Plan (methods) or reads one (budget, surgery, checkpoints, reports).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from trimbre.errors import UserError, reason
from trimbre.files import write_json

FORMAT = 2
"""The newest form that is read. Plans of whole vocabularies are written in form 1, which has no place for tokens."""
Value = TypeVar("Value")


class FrozenMapping(Mapping[str, Value]):
    """A mapping that cannot change: hashable where its values are, and picklable, which `MappingProxyType` is not."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Value]):
        self._items = dict(items)

    def __getitem__(self, name: str) -> Value:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMapping, (self._items,)


@dataclass(frozen=True)
class KeptTokens:
    """Which tokens of a vocabulary are kept: their rows in the embedding and in the projection to logits."""

    size: int
    """Tokens before the cut."""
    kept: tuple[int, ...]
    """Ascending ids of the tokens that stay; their places here are their ids after the cut."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", int(self.size))
        object.__setattr__(self, "kept", tuple(map(int, self.kept)))
        if any(a >= b for a, b in pairwise(self.kept)) or not all(0 <= token < self.size for token in self.kept):
            raise UserError(f"the plan's tokens are not ascending ids below {self.size}: sort them, without repeats")

    @property
    def renumbered(self) -> dict[int, int]:
        """Id before the cut -> id after it."""
        return {token: place for place, token in enumerate(self.kept)}

    def then(self, later: "KeptTokens") -> "KeptTokens":
        """What both leave, one after the other; `later` counts in ids after the first."""
        if later.size != len(self.kept):
            raise UserError("the second plan does not fit the first at the vocabulary: it was made for another model")
        return KeptTokens(self.size, tuple(self.kept[token] for token in later.kept))

    def to_json(self) -> dict[str, Any]:
        """Plain data, the ids as ranges such as `0-255 260`; the inverse of `from_json`."""
        starts = [token for before, token in pairwise((-2, *self.kept)) if token != before + 1]
        ends = [token for token, after in pairwise((*self.kept, self.size + 1)) if after != token + 1]
        ranges = (f"{a}-{b}" if a < b else str(a) for a, b in zip(starts, ends, strict=True))
        return {"size": self.size, "kept": " ".join(ranges)}

    @classmethod
    def from_json(cls, data: Any) -> "KeptTokens":
        """Raises UserError for anything else than what `to_json` gives."""
        try:
            size = _count(data["size"])
            kept: list[int] = []
            for part in data["kept"].split():
                first, _, last = part.partition("-")
                if int(last or first) >= size:
                    raise ValueError(f"{part!r} is not below {size}")
                kept += range(int(first), int(last or first) + 1)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"not a plan: {reason(error)} at its vocabulary (see plan.json of a pruned model)"
            ) from error
        found = cls(size, tuple(kept))
        if found.to_json() != data:
            raise UserError("the vocabulary of the plan is not written as ranges such as '0-255 260': correct it")
        return found


@dataclass(frozen=True)
class Plan:
    """What stays of a model: a frozen value that can be compared, hashed, pickled and written as JSON.

    A module that keeps no unit but is not skipped still adds the bias of its last projection; a skipped one nothing.
    """

    sizes: Mapping[str, int]
    """Units that each module had before the cut."""
    kept: Mapping[str, tuple[int, ...]]
    """Ascending indices of the units that stay, for every module in `sizes`; none where it is skipped."""
    skipped: frozenset[str] = frozenset()
    """Modules that leave altogether."""
    vocabulary: KeptTokens | None = None
    """The tokens that stay; None where all do."""

    def __post_init__(self) -> None:
        skipped = frozenset(self.skipped)
        kept = {path: tuple(map(int, units)) for path, units in self.kept.items()}
        sizes = {path: int(size) for path, size in self.sizes.items()}
        _check(sizes, kept, skipped)
        # Two plans that cut alike are equal, and list their modules in one order.
        kept = {path: () if path in skipped else kept[path] for path in sizes}
        object.__setattr__(self, "sizes", FrozenMapping(sizes))
        object.__setattr__(self, "kept", FrozenMapping(kept))
        object.__setattr__(self, "skipped", skipped)
        if self.vocabulary is not None and len(self.vocabulary.kept) == self.vocabulary.size:
            object.__setattr__(self, "vocabulary", None)

    @classmethod
    def everything(cls, sizes: Mapping[str, int]) -> "Plan":
        """The plan that keeps a model as it is."""
        return cls(sizes, {path: tuple(range(size)) for path, size in sizes.items()})

    @cached_property
    def widths(self) -> Mapping[str, int]:
        """Units left in every module; 0 where it is skipped."""
        return FrozenMapping({path: len(units) for path, units in self.kept.items()})

    @property
    def changes(self) -> bool:
        """Whether anything leaves."""
        fewer = bool(self.skipped) or self.vocabulary is not None
        return fewer or any(len(self.kept[path]) < size for path, size in self.sizes.items())

    def then(self, later: "Plan") -> "Plan":
        """One plan for cutting by this plan and then by `later`, which counts in units of the cut model."""
        kept = dict(self.kept)
        for path, units in later.kept.items():
            if path not in kept or later.sizes[path] != self.widths[path]:
                raise UserError(f"the second plan does not fit the first at {path}: it was made for another model")
            kept[path] = tuple(self.kept[path][unit] for unit in units)
        first, second = self.vocabulary, later.vocabulary
        vocabulary = first.then(second) if first and second else first or second
        return Plan(self.sizes, kept, self.skipped | later.skipped, vocabulary)

    def to_json(self) -> dict[str, Any]:
        """Plain data; the inverse of `from_json`."""
        modules = {
            path: {"size": size, "kept": list(self.kept[path])} | ({"skipped": True} if path in self.skipped else {})
            for path, size in self.sizes.items()
        }
        if self.vocabulary is None:
            return {"format": 1, "modules": modules}
        return {"format": 2, "modules": modules, "vocabulary": self.vocabulary.to_json()}

    @classmethod
    def from_json(cls, data: Any) -> "Plan":
        """Raises UserError for anything that is not a plan of a known format."""
        try:
            if data["format"] > FORMAT:
                raise UserError(
                    f"the plan is of format {data['format']}, newer than this Trimbre reads ({FORMAT}): update Trimbre"
                )
            modules = {path: _module(path, module) for path, module in data["modules"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"not a plan: {reason(error)} (see plan.json of a pruned model for the form)") from error
        return cls(
            {path: size for path, (size, _, _) in modules.items()},
            {path: kept for path, (_, kept, _) in modules.items()},
            frozenset(path for path, (_, _, skipped) in modules.items() if skipped),
            KeptTokens.from_json(data["vocabulary"]) if data.get("vocabulary") else None,
        )

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Raises UserError if `path` cannot be read as a plan."""
        try:
            return cls.from_json(json.loads(Path(path).read_text()))
        except (OSError, ValueError, UserError) as error:
            raise UserError(f"cannot read the plan {path}: {reason(error)}") from error


def _check(sizes: Mapping[str, int], kept: Mapping[str, tuple[int, ...]], skipped: frozenset[str]) -> None:
    """Raise UserError for what is no plan of any model."""
    if set(kept) != set(sizes):
        odd = sorted(set(kept) ^ set(sizes))
        raise UserError(f"the plan names the module {odd[0]} in only one of 'sizes' and 'kept': name it in both")
    for path, units in kept.items():
        if any(a >= b for a, b in pairwise(units)):
            raise UserError(f"the plan's units of {path} are not in ascending order: sort them, without repeats")
        odd_unit = next((unit for unit in units if not 0 <= unit < sizes[path]), None)
        if odd_unit is not None:
            raise UserError(f"the plan keeps unit {odd_unit} of {path}, which has {sizes[path]}: count from 0")
    for path in skipped - set(sizes):
        raise UserError(f"the plan skips {path}, which is not among its modules: correct the name")


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is not a count")
    return value


def _module(path: str, module: Mapping[str, Any]) -> tuple[int, tuple[int, ...], bool]:
    """Size, kept units and whether it is skipped."""
    try:
        kept = tuple(_count(unit) for unit in module["kept"])
        return _count(module["size"]), kept, bool(module.get("skipped", False))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"not a plan: {reason(error)} at {path} (see plan.json of a pruned model for the form)"
        ) from error
