"""Trimbre: structured pruning for speech recognition."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimbre.api import evaluate, inspect, transcribe
    from trimbre.benchmark.bench import bench
    from trimbre.config import (
        AugmentConfig,
        BatchConfig,
        DistillationConfig,
        GateConfig,
        PruneConfig,
        RecoveryConfig,
        TargetConfig,
        TrainConfig,
    )
    from trimbre.exporting.export import export
    from trimbre.inference.graph.build import make_graph
    from trimbre.inference.graph.decoder import load_graph
    from trimbre.models.loading import Recogniser, load
    from trimbre.runs import prune, train

__version__ = version("trimbre")

_FACE = {
    "trimbre.models.loading": ("load", "Recogniser"),
    "trimbre.runs": ("train", "prune"),
    "trimbre.api": ("inspect", "evaluate", "transcribe"),
    "trimbre.exporting.export": ("export",),
    "trimbre.benchmark.bench": ("bench",),
    "trimbre.inference.graph.decoder": ("load_graph",),
    "trimbre.inference.graph.build": ("make_graph",),
    "trimbre.config": (
        "PruneConfig",
        "TargetConfig",
        "GateConfig",
        "DistillationConfig",
        "RecoveryConfig",
        "TrainConfig",
        "BatchConfig",
        "AugmentConfig",
    ),
}
_HOME = {name: module for module, names in _FACE.items() for name in names}

__all__ = [
    "AugmentConfig",
    "BatchConfig",
    "DistillationConfig",
    "GateConfig",
    "PruneConfig",
    "Recogniser",
    "RecoveryConfig",
    "TargetConfig",
    "TrainConfig",
    "bench",
    "evaluate",
    "export",
    "inspect",
    "load",
    "load_graph",
    "make_graph",
    "prune",
    "train",
    "transcribe",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: torch and transformers take seconds."""
    if name not in _HOME:
        raise AttributeError(f"module 'trimbre' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
