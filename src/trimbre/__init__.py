"""Trimbre: structured pruning for speech recognition."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimbre.api import compare, evaluate, inspect, preview, prune, train, transcribe
    from trimbre.benchmark.bench import Timing, bench
    from trimbre.config import (
        AugmentConfig,
        BatchConfig,
        DistillationConfig,
        GateConfig,
        LatencyConfig,
        PruneConfig,
        RecoveryConfig,
        TargetConfig,
        TrainConfig,
    )
    from trimbre.errors import OptionError, UserError
    from trimbre.evaluation.compare_runs import Comparison
    from trimbre.evaluation.evaluate import EvaluationReport
    from trimbre.exporting.export import export
    from trimbre.inference.graph.build import make_graph
    from trimbre.inference.graph.decoder import DecodingGraph, GraphReport, load_graph
    from trimbre.inference.long_form import Transcript
    from trimbre.models.families.registry import Family, register_family
    from trimbre.models.loading import Recogniser, load
    from trimbre.plan import Plan
    from trimbre.pruning.methods.base import Method, MethodResult
    from trimbre.pruning.methods.registry import register_method
    from trimbre.pruning.surgery import cut
    from trimbre.runs.results import PruneResult, TrainResult

__version__ = version("trimbre")

_FACE = {
    "trimbre.api": ("compare", "evaluate", "inspect", "preview", "prune", "train", "transcribe"),
    "trimbre.benchmark.bench": ("Timing", "bench"),
    "trimbre.config": (
        "AugmentConfig",
        "BatchConfig",
        "DistillationConfig",
        "GateConfig",
        "LatencyConfig",
        "PruneConfig",
        "RecoveryConfig",
        "TargetConfig",
        "TrainConfig",
    ),
    "trimbre.errors": ("OptionError", "UserError"),
    "trimbre.evaluation.compare_runs": ("Comparison",),
    "trimbre.evaluation.evaluate": ("EvaluationReport",),
    "trimbre.exporting.export": ("export",),
    "trimbre.inference.graph.build": ("make_graph",),
    "trimbre.inference.graph.decoder": ("DecodingGraph", "GraphReport", "load_graph"),
    "trimbre.inference.long_form": ("Transcript",),
    "trimbre.models.families.registry": ("Family", "register_family"),
    "trimbre.models.loading": ("Recogniser", "load"),
    "trimbre.plan": ("Plan",),
    "trimbre.pruning.methods.base": ("Method", "MethodResult"),
    "trimbre.pruning.methods.registry": ("register_method",),
    "trimbre.pruning.surgery": ("cut",),
    "trimbre.runs.results": ("PruneResult", "TrainResult"),
}
_HOME = {name: module for module, names in _FACE.items() for name in names}

__all__ = [
    "AugmentConfig",
    "BatchConfig",
    "Comparison",
    "DecodingGraph",
    "DistillationConfig",
    "EvaluationReport",
    "Family",
    "GateConfig",
    "GraphReport",
    "LatencyConfig",
    "Method",
    "MethodResult",
    "OptionError",
    "Plan",
    "PruneConfig",
    "PruneResult",
    "Recogniser",
    "RecoveryConfig",
    "TargetConfig",
    "Timing",
    "TrainConfig",
    "TrainResult",
    "Transcript",
    "UserError",
    "bench",
    "compare",
    "cut",
    "evaluate",
    "export",
    "inspect",
    "load",
    "load_graph",
    "make_graph",
    "preview",
    "prune",
    "register_family",
    "register_method",
    "train",
    "transcribe",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, since torch and transformers take seconds to import."""
    if name not in _HOME:
        raise AttributeError(f"module 'trimbre' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
