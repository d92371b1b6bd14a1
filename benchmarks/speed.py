"""Speed-up of pruned models in ONNX Runtime, and the error of a latency table's predictions.

First the dense model, a half, a quarter and int8 exports are timed from audio to text, in alternation within every
repeat; with one thread the clock is the thread's CPU time. Then plans with random widths and plans for given real-time
factors are timed beside the dense model and compared with the table's prediction. Without --half and --quarter these
models are cut at random: they have the right shape to be timed, and recognise nothing.

    python benchmarks/speed.py
    python benchmarks/speed.py --half half --quarter quarter --plans 0
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from trimbre.benchmark.bench import load_transcriber, prepare
from trimbre.benchmark.latency_tables import CPU, table_for, timed_beside
from trimbre.benchmark.timing import clock_for, noise, seconds_to, using_threads
from trimbre.cli import prepare_libraries
from trimbre.config import LatencyConfig, TargetConfig
from trimbre.costs.latency import LatencyTable, latency_budget
from trimbre.models.anatomy import Anatomy
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import Recogniser, load
from trimbre.plan import Plan
from trimbre.progress import progress
from trimbre.pruning.allocation import PruningTarget
from trimbre.pruning.methods.at_random import uniform_plan
from trimbre.pruning.surgery import cut
from trimbre.pruning.targets import ModelCosts

LENGTHS = (1.0, 5.0, 10.0, 15.0)
"""Lengths of the clips, in seconds."""


def main() -> None:
    """Print the table of speed-ups, then that of predictions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="models/telephone-en")
    parser.add_argument("--half", help="a model pruned by half; one is cut at random without it")
    parser.add_argument("--quarter", help="a model pruned by three quarters; one is cut at random without it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--runtime", default="onnx-fp32", help="runtime that the table is of")
    parser.add_argument("--table", help="a latency table of this machine; one is measured without it")
    parser.add_argument("--plans", type=int, default=10, help="random plans to predict; 0 leaves the second part out")
    parser.add_argument(
        "--shares",
        type=float,
        nargs="*",
        default=[0.7, 0.5, 0.4],
        help="targets, as shares of the dense model's time",
    )
    given = parser.parse_args()
    prepare_libraries()
    torch.set_num_threads(given.threads)
    recogniser = load(given.model)
    with tempfile.TemporaryDirectory() as folder:
        places = {
            "half": given.half or cut_at_random(recogniser, 0.5, Path(folder) / "half"),
            "quarter": given.quarter or cut_at_random(recogniser, 0.75, Path(folder) / "quarter"),
        }
        side_by_side(given.model, places, given.threads, given.repeats, Path(folder))
    if given.plans:
        options = LatencyConfig(given.table, *(() if given.table else (given.runtime, given.threads)))
        predictions(recogniser, table_for(*recogniser, name=given.model, options=options), given.plans, given.shares)


def cut_at_random(recogniser: Recogniser, remove: float, out: Path) -> str:
    """Cut a share of the blocks' parameters and multiply-accumulates at random, and save the model."""
    anatomy = anatomy_of(recogniser.model)
    plan = random_plan(
        anatomy, ModelCosts.of(recogniser.model, anatomy, recogniser.processor), TargetConfig(remove=remove)
    )
    return str(save(cut(recogniser.model, plan), recogniser.processor, out, plan=plan))


def random_plan(anatomy: Anatomy, costs: ModelCosts, target: TargetConfig, seed: int = 0) -> Plan:
    """A plan that meets a target and keeps units at random."""
    free = torch.zeros(len(anatomy.groups), dtype=torch.bool)
    return uniform_plan(PruningTarget(anatomy, costs.budgets_for(target), target.remove, free), seed=seed)


def side_by_side(dense: str, places: Mapping[str, str], threads: int, repeats: int, folder: Path) -> None:
    """Time the dense model, the pruned ones, and the dense one and the half in int8, and print the table."""
    wanted = {"dense": (dense, "onnx-fp32"), "dense, int8": (dense, "onnx-int8")}
    wanted |= {name: (place, "onnx-fp32") for name, place in places.items()}
    wanted |= {"half, int8": (places["half"], "onnx-int8")}
    (folder / "exports").mkdir()
    ready = {name: (prepare(*what, folder / "exports"), what[1]) for name, what in wanted.items()}
    transcribers = {name: load_transcriber(*what, threads, CPU) for name, what in ready.items()}
    files = {
        name: sum(file.stat().st_size for file in Path(place).glob("*.onnx*")) for name, (place, _) in ready.items()
    }
    rates = {transcribe.rate for transcribe in transcribers.values()}
    clips = {(length, rate): noise(length, 0, rate) for length in LENGTHS for rate in rates}
    spent: dict[str, dict[float, list[float]]] = {name: {length: [] for length in LENGTHS} for name in transcribers}
    with using_threads(threads), progress("speed", repeats) as show:
        for repeat in range(-1, repeats):  # the first allocates memory
            for length in LENGTHS:
                for name in list(transcribers)[:: 1 if repeat % 2 else -1]:
                    clip = clips[length, transcribers[name].rate]
                    took = seconds_to(transcribers[name], clip, clock_for(threads))
                    if repeat >= 0:
                        spent[name][length].append(took)
            show(repeat + 1)
    title = f"ONNX Runtime, {threads} thread{'s' if threads > 1 else ''}, audio to text: ms, medians of {repeats}"
    table = Table(
        title=title, caption="Times faster than dense: the median of ratios within repeats, extremes in brackets."
    )
    for heading in ("model", *(f"{length:g} s" for length in LENGTHS), "times faster, 10 s", "all", "MB", "of dense"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, times in spent.items():
        cells = [f"{1000 * statistics.median(times[length]):.1f}" for length in LENGTHS]
        at_ten = [a / b for a, b in zip(spent["dense"][10.0], times[10.0], strict=True)]
        together = [sum(each) for each in zip(*times.values(), strict=True)]
        whole = [sum(each) for each in zip(*spent["dense"].values(), strict=True)]
        overall = [a / b for a, b in zip(whole, together, strict=True)]
        size = (f"{files[name] / 1e6:.1f}", f"{files[name] / files['dense']:.1%}")
        table.add_row(name, *cells, extremes(at_ten), extremes(overall), *size)
    Console(width=150).print(table)


def extremes(values: Sequence[float]) -> str:
    """The median with the least and the greatest value."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def predictions(recogniser: Recogniser, table: LatencyTable, count: int, shares: Sequence[float]) -> None:
    """Print the table's prediction for each plan beside the measured time."""
    anatomy = anatomy_of(recogniser.model)
    costs = ModelCosts.of(recogniser.model, anatomy, recogniser.processor, table)
    budget = latency_budget(table, anatomy, scope="model")
    free = torch.zeros(len(anatomy.groups), dtype=torch.bool)
    plans = {f"random {seed}": random_widths(anatomy, seed) for seed in range(count)}
    for share in shares:
        asked = costs.resolve_target(TargetConfig(rtf=share * budget.dense), anatomy, free)
        plans[f"--rtf {share * budget.dense:.3g}"] = random_plan(anatomy, costs, asked)
    shown = Table(
        title=f"{costs.measured_in}, {table.seconds:g} s of audio: seconds per second of audio",
        caption=f"The dense model takes {budget.dense:.3g}. Measured: that times the ratio of both models' "
        f"times. The table's curves are within {table.spread:.1%} of the times that they were fitted to.",
    )
    for heading in ("plan", "predicted", "measured", "error"):
        shown.add_column(heading, justify="left" if heading == "plan" else "right")
    errors = []
    with (
        timed_beside(
            *recogniser, runtime=table.runtime, threads=table.threads, seconds=table.seconds, repeats=40
        ) as timed,
        progress("plans", len(plans)) as show,
    ):
        for done, (name, plan) in enumerate(plans.items(), 1):
            small, dense = timed(cut(recogniser.model, plan))
            predicted, measured = budget.cost.of(plan), small / dense * budget.dense
            errors.append(predicted / measured - 1)
            shown.add_row(name, f"{predicted:.3g}", f"{measured:.3g}", f"{errors[-1]:+.1%}")
            show(done)
    Console(width=110).print(shown)
    print(f"error: {max(map(abs, errors)):.1%} at most, median {statistics.median(map(abs, errors)):.1%}")


def random_widths(anatomy: Anatomy, seed: int) -> Plan:
    """A random width for every module; a tenth of the modules are skipped."""
    draw = random.Random(seed)
    skipped = frozenset(group.path for group in anatomy.groups if draw.random() < 0.1)
    kept = {group.path: tuple(range(draw.randint(1, group.size))) for group in anatomy.groups}
    return Plan(anatomy.sizes, kept, skipped)


if __name__ == "__main__":
    main()
