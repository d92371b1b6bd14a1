"""Short pruning runs on tiny models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import trimbre
from trimbre.config import AugmentConfig, BatchConfig, GateConfig, PruneConfig, RecoveryConfig
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
