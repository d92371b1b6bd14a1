"""Does the controller hold the cost to its ramp? Targets 0.3, 0.5 and 0.75 of both budgets, on a real model and speech.

python benchmarks/controller.py --model models/telephone-en --train demo/train/train
"""

import argparse
import copy
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from trimbre.anatomy import anatomy_of
from trimbre.data.batches import training_batches
from trimbre.data.cuts import read_cuts
from trimbre.distill import Distiller, Objective
from trimbre.lagrangian import Multipliers, Ramp
from trimbre.loop import accelerator_for
from trimbre.methods import l0
from trimbre.models import load
from trimbre.options import BatchOptions, DistillOptions, GateOptions, Target
from trimbre.pruning import transcript_loss
from trimbre.search import Protection
from trimbre.target import Ledger


def main() -> None:
    """Print, for each target, how far the expected cost strayed and what the final search moved."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="models/telephone-en")
    parser.add_argument("--train", default="demo/train/train")
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()

    table = Table(title=f"{asked.steps} steps, budget both, of the blocks")
    for heading in ("target", "expected at the end", "most above the ramp", "units moved by the search", "exact"):
        table.add_column(heading, justify="right")
    teacher, processor = load(asked.model)
    cuts, options, accelerator = read_cuts(asked.train), GateOptions(), accelerator_for("auto")

    def batches(start: int) -> Any:
        return training_batches(cuts, processor=processor, options=BatchOptions(), seed=0, start=start)

    for target in (0.3, 0.5, 0.75):
        student = copy.deepcopy(teacher).requires_grad_(True)
        anatomy = anatomy_of(student)
        ledger = Ledger.of(student, anatomy, processor)
        budgets = ledger.asked(Target(remove=target))
        protected = Protection().mask(anatomy)
        first = batches(0)
        gates = l0.start_gates(
            student,
            anatomy,
            budgets,
            batches=(next(first) for _ in range(options.seed_batches)),
            loss=lambda batch, student=student: transcript_loss(student, batch),
            protected=protected,
            options=options,
            accelerator=accelerator,
        )
        multipliers, ramp, above = Multipliers(gates, budgets), Ramp(target, round(options.ramp * asked.steps)), [0.0]

        def watch(
            step: int, multipliers: Any = multipliers, ramp: Any = ramp, above: list[float] = above
        ) -> Mapping[str, float]:
            above.append(max(multipliers.removed()) - ramp(step))
            return {}

        l0.learn(
            student,
            gates,
            budgets,
            target=target,
            steps=asked.steps,
            objective=Objective(student, Distiller(teacher, DistillOptions())),
            options=options,
            batches=batches,
            accelerator=accelerator,
            seed=0,
            validate=watch,
            validate_every=1,
        )
        plan, moved = l0.plan_from_gates(anatomy, gates, budgets, target=target, protected=protected, multiple_of=1)
        expected = ", ".join(f"{share:.2%}" for share in multipliers.removed())
        exact = ", ".join(f"{budget.removed(plan):.2%}" for budget in budgets)
        table.add_row(f"{target:.0%}", expected, f"{100 * max(above):.2f} points", f"{moved:.1%}", exact)
    Console().print(table)


if __name__ == "__main__":
    main()
