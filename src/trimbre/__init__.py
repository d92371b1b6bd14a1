"""Trimbre: structured pruning for speech recognition."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimbre.benchmarking import bench
    from trimbre.exporting import export
    from trimbre.graphs import load_graph
    from trimbre.graphs.making import make_graph
    from trimbre.looking import evaluate, inspect, transcribe
    from trimbre.models import Recogniser, load
    from trimbre.options import (
        AugmentOptions,
        BatchOptions,
        DistillOptions,
        GateOptions,
        PruneOptions,
        RecoverOptions,
        Target,
        TrainOptions,
    )
    from trimbre.runs import prune, train

__version__ = version("trimbre")

_FACE = {
    "trimbre.models": ("load", "Recogniser"),
    "trimbre.runs": ("train", "prune"),
    "trimbre.looking": ("inspect", "evaluate", "transcribe"),
    "trimbre.exporting": ("export",),
    "trimbre.benchmarking": ("bench",),
    "trimbre.graphs": ("load_graph",),
    "trimbre.graphs.making": ("make_graph",),
    "trimbre.options": (
        "PruneOptions",
        "Target",
        "GateOptions",
        "DistillOptions",
        "RecoverOptions",
        "TrainOptions",
        "BatchOptions",
        "AugmentOptions",
    ),
}
_HOME = {name: module for module, names in _FACE.items() for name in names}

__all__ = [
    "AugmentOptions",
    "BatchOptions",
    "DistillOptions",
    "GateOptions",
    "PruneOptions",
    "Recogniser",
    "RecoverOptions",
    "Target",
    "TrainOptions",
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
