"""Time of a distillation step with gates over that of the same step without, in alternation.

python benchmarks/gates.py --model models/telephone-en --train demo/train/train
"""

import argparse
import copy
import statistics
import time
from contextlib import nullcontext
from typing import Any

import torch

from trimbre.config import BatchConfig, DistillationConfig, TargetConfig
from trimbre.data.batches import training_batches
from trimbre.data.cuts import read_cuts
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import load
from trimbre.pruning.constraint import Multipliers
from trimbre.pruning.gates import Gates, gated
from trimbre.pruning.targets import ModelCosts
from trimbre.training.distillation import Distiller, Objective
from trimbre.training.loop import accelerator_for


def main() -> None:
    """Print the median time of a step with and without gates, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="models/telephone-en")
    parser.add_argument("--train", default="demo/train/train")
    parser.add_argument("--steps", type=int, default=30)
    asked = parser.parse_args()

    teacher, processor = load(asked.model)
    student = copy.deepcopy(teacher).train()
    accelerator = accelerator_for("auto")
    anatomy = anatomy_of(student)
    gates = Gates(anatomy)
    multipliers = Multipliers(gates, ModelCosts.of(student, anatomy, processor).budgets_for(TargetConfig()))
    objective = Objective(student, Distiller(teacher, DistillationConfig()))
    weights = torch.optim.AdamW(student.parameters(), lr=1e-6)
    log_alphas = torch.optim.Adam(gates.parameters(), lr=1e-3)
    stream = training_batches(read_cuts(asked.train), processor=processor, options=BatchConfig(), seed=0)

    def step(batch: Any, *, gating: bool) -> float:
        start = time.perf_counter()
        with gated(student, gates) if gating else nullcontext():
            with accelerator.autocast():
                loss = objective(batch, 0)["loss"]
            accelerator.backward(loss)
            weights.step()
            weights.zero_grad()
            if gating:
                log_alphas.step()
                log_alphas.zero_grad()
                multipliers.meet(0.3)
        return time.perf_counter() - start

    with_gates, without = [], []
    for number in range(asked.steps + 2):
        batch = next(stream)
        pair = [step(batch, gating=gating) for gating in ((True, False) if number % 2 else (False, True))]
        if number >= 2:  # the first two are warm-up
            with_gates.append(pair[number % 2 == 0])
            without.append(pair[number % 2 == 1])
    ratios = [a / b for a, b in zip(with_gates, without, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    medians = [f"{1000 * statistics.median(times):.0f} ms" for times in (without, with_gates)]
    print(f"step without gates: {medians[0]}, with: {medians[1]}")
    print(f"ratio of a pair: median {statistics.median(ratios):.3f}, quartiles {low:.3f} to {high:.3f}")
    print(f"{asked.steps} pairs, {torch.get_num_threads()} threads, {accelerator.mixed_precision}")


if __name__ == "__main__":
    main()
