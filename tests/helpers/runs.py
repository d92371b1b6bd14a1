"""Short pruning runs on tiny models."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lhotse import CutSet
from lhotse.cut import Cut

import trimbre
from trimbre.config import AugmentConfig, BatchConfig, GateConfig, PruneConfig, RecoveryConfig
from trimbre.data.cuts import read_cuts
from trimbre.models.loading import load

QUICK = PruneConfig(
    remove=0.5,
    method="l0",
    calibration_batches=2,
    gates=GateConfig(steps=6, spread=6.0),
    recovery=RecoveryConfig(steps=4, refit_batches=1),
)
SMALL = BatchConfig(max_duration=6.0, buckets=2, augment=AugmentConfig.none())


def pruned(
    teacher: str | Path,
    corpus: str | Path,
    out: Path,
    config: PruneConfig = QUICK,
    *,
    batches: BatchConfig = SMALL,
    precision: str = "fp32",
    validate_every: int = 5,
    **more: Any,
) -> dict[str, Any]:
    """Prune a checkpoint -> the report."""
    config = replace(config, batches=batches, precision=precision, save_every=2, validate_every=validate_every)
    return dict(trimbre.prune(teacher, train=str(corpus), out=out, config=config, **more).report)


def weights(path: str | Path) -> dict[str, torch.Tensor]:
    return load(path).model.state_dict()


def assert_equal_weights(one: str | Path, other: str | Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


class Passes:
    """Cuts that count how often they are gone through, and end one pass as Ctrl-C would."""

    def __init__(self, data: str | Path | Sequence[Cut], *, interrupted: int | None = None):
        self.held = list(read_cuts(data))
        self.interrupted = interrupted
        self.count = 0

    def __iter__(self) -> Iterator[Cut]:
        self.count += 1
        if self.count == self.interrupted:
            raise KeyboardInterrupt
        return iter(self.held)

    @property
    def cuts(self) -> CutSet:
        return CutSet(self)
