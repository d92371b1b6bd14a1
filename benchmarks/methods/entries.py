"""The configurations that are compared: methods, and options of the default recipe."""

from dataclasses import dataclass, replace
from typing import Any

from trimbre.config import BatchConfig, DistillationConfig, GateConfig, PruneConfig, RecoveryConfig, TrainConfig
from trimbre.evaluation.compare_runs import CONTROL

TASK_ALONE = DistillationConfig(posterior_weight=0.0, layer_weight=0.0)
"""The task loss, without distillation."""


@dataclass(frozen=True)
class Entry:
    """A configuration to compare."""

    options: PruneConfig
    seeds: int = 1
    kind: str = "prune"
    """`prune`; `control`: fine-tune the dense model; `scratch`: train a small model of the same cost from scratch;
    `low rank`: factor projections instead of cutting units."""


def methods(steps: int, learn: int) -> dict[str, Entry]:
    """Every method by name, for `steps` steps in all; methods that train gates take `learn` of them for that."""
    learned = in_steps(PruneConfig(method="l0"), learn, steps - learn)
    at_once = in_steps(PruneConfig(method="l0"), 0, steps)
    no_refit = replace(at_once.recovery, refit=False)
    from_scratch = replace(at_once, recovery=replace(at_once.recovery, rate=TrainConfig().rate))
    return {
        CONTROL: Entry(at_once, seeds=3, kind="control"),
        "l0": Entry(learned, seeds=3),
        "curvature": Entry(replace(at_once, method="curvature"), seeds=3),
        "curvature, no refit": Entry(replace(at_once, method="curvature", recovery=no_refit), seeds=3),
        "taylor": Entry(replace(at_once, method="taylor"), seeds=3),
        "taylor-iterative": Entry(replace(learned, method="taylor-iterative"), seeds=3),
        "l0, no distillation": Entry(replace(learned, distillation=TASK_ALONE)),
        "l0, seed alone": Entry(at_once),
        "l0, gates alike": Entry(replace(learned, gates=replace(learned.gates, spread=0.0))),
        "l0, gates sampled": Entry(replace(learned, gates=replace(learned.gates, sampled=True))),
        "l0, through the recovery": Entry(through_the_recovery(steps)),
        "modules": Entry(replace(learned, method="modules")),
        "llm-pruner": Entry(replace(at_once, method="llm-pruner")),
        "llm-pruner-vector": Entry(replace(at_once, method="llm-pruner-vector")),
        "flap": Entry(replace(at_once, method="flap")),
        "flap, no refit": Entry(replace(at_once, method="flap", recovery=no_refit)),
        "wanda": Entry(replace(at_once, method="wanda")),
        "minitron": Entry(replace(at_once, method="minitron")),
        "activation": Entry(replace(at_once, method="activation")),
        "magnitude": Entry(replace(at_once, method="magnitude")),
        "shortgpt": Entry(replace(at_once, method="shortgpt")),
        "layers": Entry(replace(at_once, method="layers")),
        "random": Entry(replace(at_once, method="random")),
        "low rank": Entry(at_once, seeds=3, kind="low rank"),
        "low rank, parameters alone": Entry(replace(at_once, budget="params"), kind="low rank"),
        "DPHuBERT": Entry(dphubert(steps)),
        "small from scratch": Entry(replace(from_scratch, distillation=TASK_ALONE), kind="scratch"),
        "small from scratch, distilled": Entry(from_scratch, kind="scratch"),
    }


def in_steps(config: PruneConfig, learn: int, recover: int) -> PruneConfig:
    """The config with `learn` steps of gate training and `recover` steps of recovery."""
    return replace(config, gates=replace(config.gates, steps=learn), recovery=replace(config.recovery, steps=recover))


def through_the_recovery(steps: int) -> PruneConfig:
    """Gates in the order of `curvature`, at the target after a tenth of the steps and learned for all but the last."""
    config = in_steps(PruneConfig(method="l0"), steps - steps // 10, steps // 10)
    return replace(config, gates=replace(config.gates, ramp=0.1))


def dphubert(steps: int) -> PruneConfig:
    """DPHuBERT's recipe (Peng et al. 2023): hidden states as the only loss, with its distance, layers and schedule.

    All gates start open. They are trained for two thirds of the steps, with a ramp over the first tenth of these; every
    fourth layer is matched; there is no refit. The size constraint is met exactly, not by ascent on multipliers.
    """
    learn = round(steps * 2 / 3)
    return PruneConfig(
        method="l0",
        gates=GateConfig(steps=learn, spread=0.0, sampled=True, ramp=0.1, rate=0.02),
        distillation=DistillationConfig(
            task_weight=0.0, posterior_weight=0.0, layer_distance="l1-cosine", match_every=4
        ),
        recovery=RecoveryConfig(steps=steps - learn, refit=False),
    )


def ablation(steps: int, learn: int) -> dict[str, Entry]:
    """The default recipe and that of L0, each with one option changed at a time."""
    default = in_steps(PruneConfig(), 0, steps)
    learned = in_steps(PruneConfig(method="l0"), learn, steps - learn)
    recovery = default.recovery

    def distilled(**terms: Any) -> PruneConfig:
        return replace(default, distillation=DistillationConfig(**terms))

    def gates(**options: Any) -> PruneConfig:
        return replace(learned, gates=replace(learned.gates, **options))

    def learned_for(learn: int) -> PruneConfig:
        return in_steps(learned, learn, steps - learn)

    varied = {
        "default": default,
        "no task": distilled(task_weight=0.0),
        "no posteriors": distilled(posterior_weight=0.0),
        "no hidden states": distilled(layer_weight=0.0),
        "task alone": replace(default, distillation=TASK_ALONE),
        "hidden states, weight 4": distilled(layer_weight=4.0),
        "every fourth layer": distilled(match_every=4),
        "no refit": replace(default, recovery=replace(recovery, refit=False)),
        "scored on a quarter": replace(default, calibration_batches=default.calibration_batches // 4),
        "refitted on a quarter": replace(
            default, recovery=replace(recovery, refit_batches=recovery.refit_batches // 4)
        ),
        "refitted on four times": replace(
            default, recovery=replace(recovery, refit_batches=recovery.refit_batches * 4)
        ),
        "augmented": replace(default, batches=BatchConfig()),
        "recovery rate 2.5e-4": replace(default, recovery=replace(recovery, rate=2.5e-4)),
        "recovery rate 1e-3": replace(default, recovery=replace(recovery, rate=1e-3)),
        "widths in eights": replace(default, multiple_of=8),
        "convolutions protected": replace(default, protect=("conv",)),
        "l0": learned,
        "l0, gates alike": gates(spread=0.0),
        "l0, gates 4 apart": gates(spread=4.0),
        "l0, gates 20 apart": gates(spread=20.0),
        "l0, gates sampled": gates(sampled=True),
        "l0, gate rate 0.02": gates(rate=0.02),
        "l0, gate rate 0.1": gates(rate=0.1),
        "l0, ramp 0.3": gates(ramp=0.3),
        "l0, ramp 1": gates(ramp=1.0),
        "l0, learning half as long": learned_for(learn // 2),
        "l0, learning twice as long": learned_for(2 * learn),
    }
    return {name: Entry(options) for name, options in varied.items()}


ENTRIES = {"methods": methods, "ablation": ablation}
