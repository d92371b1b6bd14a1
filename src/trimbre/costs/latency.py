"""Latency budgets: seconds of computation per second of audio, from a table measured on the target device."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from trimbre.costs.cost import Budget, piecewise_linear
from trimbre.data.audio import SAMPLE_RATE
from trimbre.errors import UserError, reason
from trimbre.files import write_json
from trimbre.models.anatomy import Anatomy, Group

FORMAT = 1


@dataclass(frozen=True)
class LatencyTable:
    """Seconds per second of audio of a whole recogniser, audio to text, by the widths of its modules.

    Measured on clips of one length, one at a time (batch 1): attention's share grows with length.
    """

    model: str
    """Path or name on the Hub of the model that was measured."""
    signature: str
    """Signature of the parts that no cut changes (`signature_of`): a table serves every model that shares them."""
    runtime: str
    """One of `config.BENCH_RUNTIMES`."""
    threads: int
    machine: Mapping[str, Any]
    """Name of the processor and its number of cores."""
    versions: Mapping[str, str]
    """Versions of the libraries that computed."""
    seconds: float
    """Length of the clip that was measured on."""
    fixed: float
    """Time of what no cut changes: features, front end, norms between the blocks, head, decoding."""
    curves: Mapping[str, tuple[tuple[int, float], ...]]
    """Class of modules (`curve_key`) -> (width, time of one such module), ascending; at width 0 it takes no time."""
    spread: float
    """Largest relative distance of the curves from the measured times."""

    def __post_init__(self) -> None:
        points = {key: tuple((int(width), float(cost)) for width, cost in curve) for key, curve in self.curves.items()}
        object.__setattr__(self, "curves", points)
        for key, curve in points.items():
            steps = zip([(0, 0.0), *curve], curve, strict=False)
            if not curve or not all(before[0] < after[0] and before[1] <= after[1] for before, after in steps):
                raise UserError(f"its curve of {key} does not rise with the width: measure it again")
        times = [self.fixed, self.seconds, *(cost for curve in points.values() for _, cost in curve)]
        if not all(0 <= time < math.inf for time in times):
            raise UserError("a time in it is below zero or not finite: measure it again")

    def to_json(self) -> dict[str, Any]:
        """Plain data; the inverse of `from_json`."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> "LatencyTable":
        """Raises UserError for anything that is not a table of a known format."""
        try:
            given = dict(data)
            known = given.pop("format")
            newer = known > FORMAT
            table = None if newer else cls(**given)
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError("it is not a latency table: give one that `trimbre bench --table` wrote") from error
        if table is None:
            raise UserError(f"it is of format {known}, newer than this Trimbre reads ({FORMAT}): update Trimbre")
        return table

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "LatencyTable":
        """Raises UserError if `path` cannot be read as a table."""
        try:
            return cls.from_json(json.loads(path.read_text()))
        except (OSError, ValueError, UserError) as error:
            raise UserError(f"cannot read the latency table {path}: {reason(error)}") from error


def latency_budget(table: LatencyTable, anatomy: Anatomy, *, scope: str = "blocks") -> Budget:
    """Seconds per second of audio, attributed to the groups that they leave with.

    Time is measured on the whole recogniser: what no cut changes counts to the scope `model` alone, and every other
    scope is the time of its modules that can be cut. The channels of a front end are not among these: the time of a
    convolution depends on two groups at once, and a table has a curve for each one.

    Raises:
        UserError: the table has no curve for one of the model's modules.
    """
    prefix = anatomy.scopes[scope]
    whole = not prefix
    curves = [curve_of(table, g) if g.residual and g.path.startswith(prefix) else () for g in anatomy.groups]
    cost = piecewise_linear(table.fixed if whole else 0.0, curves, anatomy.sizes)
    dense = cost.fixed + sum(float(unit) * group.size for unit, group in zip(cost.unit, anatomy.groups, strict=True))
    return Budget("latency", scope, cost, dense)


def curve_of(table: LatencyTable, group: Group) -> tuple[tuple[int, float], ...]:
    """The curve of a group; raises UserError where the table has none as wide."""
    curve = table.curves.get(curve_key(group), ())
    if not curve or curve[-1][0] < group.size:
        raise UserError(
            f"the latency table has no curve up to {group.size} {group.kind.unit}s as in {group.path}: "
            "measure a table of this model (`trimbre bench --table FILE MODEL` does)"
        )
    return curve


def curve_key(group: Group) -> str:
    """The name of a group's latency curve: groups of one kind share it, if they are in blocks of one stack.

    A decoder's feed-forward is applied to other positions than an encoder's.
    """
    home = group.path.partition(f".{group.layer}.")[0]
    return f"{group.kind.name} of {home}, {group.kind.rows} wide"


def signature_of(model: nn.Module, anatomy: Anatomy, rate: int = SAMPLE_RATE) -> str:
    """A hash of all that cutting leaves as it is: class, number of blocks, shapes of all that is outside them.

    Args:
        rate: sampling rate of the audio that the model takes, in Hz: a second at another one is as many other frames.
    """
    given = anatomy.scopes["blocks"]
    blocks = (given,) if isinstance(given, str) else given
    outside = {name: list(p.shape) for name, p in model.named_parameters() if not name.startswith(blocks)}
    stacks = {
        path: len(module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and f"{path}." in blocks
    }
    parts = [type(model).__name__, outside, stacks, *([] if rate == SAMPLE_RATE else [rate])]
    described = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def check_fits(table: LatencyTable, model: nn.Module, anatomy: Anatomy, name: str, rate: int = SAMPLE_RATE) -> None:
    """Raise UserError where a table was measured on a model of another shape or sampling rate."""
    if table.signature != signature_of(model, anatomy, rate):
        raise UserError(
            f"the latency table {name} was measured on {table.model}, whose shape differs from this model's or "
            "whose sampling rate does: measure a table of this model (`trimbre bench --table FILE MODEL` does)"
        )
    latency_budget(table, anatomy, scope="model")
