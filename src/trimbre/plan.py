"""The Plan: which units of every prunable module are kept, and which modules are skipped altogether.

Everything else either makes a Plan (methods) or reads one (budget, surgery, checkpoints, reports).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trimbre.errors import UserError
from trimbre.files import write_json

FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """What stays of a model.

    A module that keeps no unit but isn't skipped still adds the bias of its last projection; a skipped one nothing.
    """

    sizes: Mapping[str, int]
    """Units that each module had before."""
    kept: Mapping[str, tuple[int, ...]]
    """Ascending indices of the units that stay, for every module in `sizes`; none where it is skipped."""
    skipped: frozenset[str] = frozenset()
    """Modules that leave whole."""

    def __post_init__(self) -> None:
        kept = {path: tuple(map(int, units)) for path, units in self.kept.items()}
        object.__setattr__(self, "sizes", MappingProxyType(dict(self.sizes)))
        object.__setattr__(self, "kept", MappingProxyType(kept))
        object.__setattr__(self, "skipped", frozenset(self.skipped))
        self._check()
        kept |= dict.fromkeys(self.skipped, ())  # two plans that cut alike are equal

    def _check(self) -> None:
        if set(self.kept) != set(self.sizes):
            odd = sorted(set(self.kept) ^ set(self.sizes))
            raise UserError(f"the plan names the module {odd[0]} in only one of 'sizes' and 'kept': name it in both")
        for path, units in self.kept.items():
            if any(a >= b for a, b in pairwise(units)):
                raise UserError(f"the plan's units of {path} are not in ascending order: sort them, without repeats")
            odd_unit = next((unit for unit in units if not 0 <= unit < self.sizes[path]), None)
            if odd_unit is not None:
                raise UserError(f"the plan keeps unit {odd_unit} of {path}, which has {self.sizes[path]}: count from 0")
        for path in self.skipped - set(self.sizes):
            raise UserError(f"the plan skips {path}, which is not among its modules: correct the name")

    @classmethod
    def everything(cls, sizes: Mapping[str, int]) -> "Plan":
        """The plan that keeps a model as it is."""
        return cls(sizes, {path: tuple(range(size)) for path, size in sizes.items()})

    @cached_property
    def widths(self) -> Mapping[str, int]:
        """Units left in every module; 0 where it is skipped."""
        return {path: len(units) for path, units in self.kept.items()}

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

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Raises UserError if `path` cannot be read as a plan."""
        try:
            return cls.from_json(json.loads(path.read_text()))
        except (OSError, ValueError, UserError) as error:
            raise UserError(f"cannot read the plan {path}: {error}") from error


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
