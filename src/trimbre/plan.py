"""The Plan: which units of every prunable module are kept, and which modules are skipped altogether.

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

FORMAT = 1
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
        return bool(self.skipped) or any(len(self.kept[path]) < size for path, size in self.sizes.items())

    def then(self, later: "Plan") -> "Plan":
        """One plan for cutting by this plan and then by `later`, which counts in units of the cut model."""
        kept = dict(self.kept)
        for path, units in later.kept.items():
            if path not in kept or later.sizes[path] != self.widths[path]:
                raise UserError(f"the second plan does not fit the first at {path}: it was made for another model")
            kept[path] = tuple(self.kept[path][unit] for unit in units)
        return Plan(self.sizes, kept, self.skipped | later.skipped)

    def to_json(self) -> dict[str, Any]:
        """Plain data; the inverse of `from_json`."""
        modules = {
            path: {"size": size, "kept": list(self.kept[path])} | ({"skipped": True} if path in self.skipped else {})
            for path, size in self.sizes.items()
        }
        return {"format": FORMAT, "modules": modules}

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
            raise UserError(f"not a plan: {error!r} (see plan.json of a pruned model for the form)") from error
        return cls(
            {path: size for path, (size, _, _) in modules.items()},
            {path: kept for path, (_, kept, _) in modules.items()},
            frozenset(path for path, (_, _, skipped) in modules.items() if skipped),
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
        raise UserError(f"not a plan: {error!r} at {path} (see plan.json of a pruned model for the form)") from error
