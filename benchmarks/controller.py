"""Deviation of the expected cost from its ramp in L0 training, for targets of 30, 50 and 75 % of both budgets.

python benchmarks/controller.py --model models/telephone-en --train demo/train/train
"""

import argparse
import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from trimbre.config import BatchConfig, GateConfig, PruneConfig
from trimbre.data.batches import training_batches
from trimbre.data.cuts import read_cuts
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import load
from trimbre.pruning.constraint import Multipliers, Ramp
from trimbre.pruning.methods import l0
from trimbre.pruning.methods.base import PruningContext
from trimbre.pruning.pipeline import target_of
from trimbre.pruning.targets import ModelCosts
from trimbre.training.distillation import Distiller
from trimbre.training.loop import accelerator_for
from trimbre.training.recovery import Training
from trimbre.training.task_loss import transcript_loss


def main() -> None:
    """Print, for each target, the deviation of the expected cost and the units that the final search moved."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="models/telephone-en")
    parser.add_argument("--train", default="demo/train/train")
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()

    table = Table(title=f"{asked.steps} steps, budget both, of the blocks")
    for heading in ("target", "expected at the end", "most above the ramp", "units moved by the search", "exact"):
        table.add_column(heading, justify="right")
    teacher, processor = load(asked.model)
    cuts, accelerator = read_cuts(asked.train), accelerator_for("auto")

    def batches(start: int) -> Any:
        return training_batches(cuts, processor=processor, options=BatchConfig(), seed=0, start=start)

    for target in (0.3, 0.5, 0.75):
        student = copy.deepcopy(teacher).requires_grad_(True)
        anatomy = anatomy_of(student)
        config = PruneConfig(remove=target, method="l0", gates=GateConfig(steps=asked.steps))
        aim = target_of(anatomy, ModelCosts.of(student, anatomy, processor), config)
        distiller = Distiller(teacher, config.distillation)
        training = Training(batches, batches, accelerator, seed=0)
        context = PruningContext(distiller, training, transcript_loss, gates=config.gates)
        gates = l0.start_gates(student, context, aim)
        multipliers, ramp = Multipliers(gates, aim.budgets), Ramp(target, round(config.gates.ramp * asked.steps))
        above = [0.0]

        def watch(
            model: Any, multipliers: Any = multipliers, ramp: Any = ramp, above: list[float] = above
        ) -> Mapping[str, float]:
            above.append(max(multipliers.removed()) - ramp(len(above)))
            return {}

        watched = replace(context, training=replace(context.training, validate=watch, validate_every=1))
        l0.learn(student, gates, watched, aim)
        plan = l0.plan_from_gates(gates, aim)
        moved, budgets = l0.disagreement(gates, plan), aim.budgets
        expected = ", ".join(f"{share:.2%}" for share in multipliers.removed())
        exact = ", ".join(f"{budget.removed(plan):.2%}" for budget in budgets)
        table.add_row(f"{target:.0%}", expected, f"{100 * max(above):.2f} points", f"{moved:.1%}", exact)
    Console().print(table)


if __name__ == "__main__":
    main()
