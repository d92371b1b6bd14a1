"""Measuring a latency table: one model cut to many widths, each timed beside the model as it is, and curves fitted."""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.optimize import nnls
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.benchmark.bench import Listen, listening, prepared
from trimbre.benchmark.timing import clock_for, noise, seconds_to, using_threads, with_fixed_output_length
from trimbre.config import BENCH_RUNTIMES, LatencyConfig
from trimbre.costs.latency import FORMAT, LatencyTable, check_fits, curve_key, signature_of
from trimbre.costs.macs import reference_of
from trimbre.errors import UserError, at_least, one_of
from trimbre.files import cache_folder
from trimbre.models.anatomy import Anatomy, Group
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import Recogniser
from trimbre.models.source import ModelLike, resolve_model
from trimbre.plan import Plan
from trimbre.progress import progress
from trimbre.pruning.surgery import cut

SHARES = (1.0, 0.75, 0.5, 0.25, 1 / 16)
"""Widths that are measured of feed-forwards and convolutions, as shares of the widest."""
HEADS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Numbers of attention heads that are measured: a runtime takes its steps where they are few."""
REPEATS = 40
"""Turns that a cut model and the whole one take: little beside what preparing them takes, and a quiet one is found."""
MODULES = 8
"""How many modules of a sort are there when it's measured alone: more would only make a large model slow to measure."""
Compare = Callable[[Plan], tuple[float, float]]
"""A plan -> seconds of the model cut by it and of the whole model, for one clip, measured in turns."""


def table_for(model: PreTrainedModel, processor: ProcessorMixin, *, name: str, options: LatencyConfig) -> LatencyTable:
    """The table that the options name, or the one that this machine measured before, or measures now and keeps.

    Raises:
        UserError: the table named is none, or of another model.
    """
    anatomy = anatomy_of(model)
    if options.table is not None:
        table = LatencyTable.load(Path(options.table))
        check_fits(table, model, anatomy, options.table)
        return table
    kept = kept_at(model, anatomy, options.runtime, options.threads)
    if kept.is_file():
        return LatencyTable.load(kept)
    table = measure(model, processor, name=name, runtime=options.runtime, threads=options.threads)
    table.save(kept)
    return table


def write_table(
    *, model: ModelLike, out: str | Path, runtime: str, threads: int = 1, repeats: int = REPEATS
) -> LatencyTable:
    """Measure a recogniser and write its table to a file, whole or not at all.

    Raises:
        UserError: the model cannot be loaded or run there, or `out` is a folder.
    """
    out = Path(out)
    if out.is_dir():
        raise UserError(f"--table {out} is a folder: name a file in it")
    source = resolve_model(model)
    table = measure(*source.recogniser, name=source.name, runtime=runtime, threads=threads, repeats=repeats)
    table.save(out)
    return table


def kept_at(model: PreTrainedModel, anatomy: Anatomy, runtime: str, threads: int) -> Path:
    """Where in the user's cache a table is kept: another machine, library or shape of the model has another place."""
    told = json.dumps([machine(), versions(runtime), FORMAT, sorted(anatomy.sizes.items())])
    key = hashlib.sha256(told.encode()).hexdigest()[:16]
    return cache_folder() / "latency" / f"{signature_of(model, anatomy)}-{runtime}-{threads}-{key}.json"


def by_the_clock(
    whole: Recogniser, small: PreTrainedModel, table: LatencyTable, *, repeats: int = REPEATS
) -> dict[str, float] | None:
    """Seconds per second of audio of a cut model and of the whole one, as a table was measured.

    None where it was measured on another machine or with other libraries.
    """
    if table.machine != machine() or table.versions != versions(table.runtime):
        return None
    with beside(*whole, runtime=table.runtime, threads=table.threads, seconds=table.seconds, repeats=repeats) as timed:
        spent, other = timed(small)
    return {"pruned": spent / table.seconds, "unpruned": other / table.seconds, "share": spent / other}


def measure(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    name: str,
    runtime: str = "onnx-fp32",
    threads: int = 1,
    repeats: int = REPEATS,
    compare: Compare | None = None,
) -> LatencyTable:
    """Write down how long a recogniser takes by the widths of its modules, in one runtime, on this machine.

    Every sort of module is measured at several widths with the others gone, so that what it adds stands out, and all
    together at several shares, so that the sum is right too. Non-negative least squares on relative distances then
    find what no cut changes and the rise of every curve: no curve falls.

    Args:
        name: what the table says it was measured on.
        runtime: one of `BENCH_RUNTIMES`.
        threads: how many threads compute.
        repeats: how often each cut model and the whole one take turns.
        compare: what measures instead of the clock.

    Raises:
        UserError: the model cannot run there.
    """
    one_of("runtime", runtime, BENCH_RUNTIMES)
    at_least("threads", threads, 1)
    at_least("repeats", repeats, 1)
    anatomy = anatomy_of(model)
    seconds = reference_of(model, processor).seconds
    plans = list(plans_of(anatomy))
    ratios, whole = [1.0], math.inf
    with (
        beside(model, processor, runtime=runtime, threads=threads, seconds=seconds, repeats=repeats) as timed,
        progress("latency", len(plans)) as show,
    ):
        for done, plan in enumerate(plans[1:], 2):
            spent, other = timed(cut(model, plan)) if compare is None else compare(plan)
            ratios.append(spent / other)
            whole = min(whole, other)
            show(done, share=ratios[-1])
    fixed, curves, spread = fit(anatomy, plans, [ratio * whole / seconds for ratio in ratios])
    return LatencyTable(
        model=name,
        signature=signature_of(model, anatomy),
        runtime=runtime,
        threads=threads,
        machine=machine(),
        versions=versions(runtime),
        seconds=seconds,
        fixed=fixed,
        curves=curves,
        spread=spread,
    )


def sorts_of(anatomy: Anatomy) -> dict[str, list[Group]]:
    """The groups that share a curve, by what they have in common."""
    sorts: dict[str, list[Group]] = {}
    for group in anatomy.groups:
        sorts.setdefault(curve_key(group), []).append(group)
    return sorts


def widths_of(groups: Sequence[Group]) -> list[int]:
    """The widths at which a curve has corners, ascending."""
    narrowest, widest = (chosen(group.size for group in groups) for chosen in (min, max))
    if groups[0].kind.rows > 1:
        return sorted({min(heads, widest) for heads in (*HEADS, widest)})
    return sorted({narrowest, *(max(1, round(share * widest)) for share in SHARES)})


def plans_of(anatomy: Anatomy) -> Iterator[Plan]:
    """What is measured; the model as it is comes first."""
    sorts = sorts_of(anatomy)
    yield Plan.everything(anatomy.sizes)
    least = {group.path: widths_of(groups)[0] for groups in sorts.values() for group in groups}
    for share in (0.5, 0.25):
        yield narrowed(anatomy, {g.path: max(round(share * g.size), least[g.path]) for g in anatomy.groups})
    yield narrowed(anatomy, {})
    for groups in sorts.values():
        for width in widths_of(groups):
            some = sorted(groups, key=lambda group: -group.size)[:MODULES]
            yield narrowed(anatomy, {group.path: min(width, group.size) for group in some})


def narrowed(anatomy: Anatomy, widths: Mapping[str, int]) -> Plan:
    """The plan that leaves so many units to each module, and skips what has none left."""
    least = {group.path: min(group.least, group.size) for group in anatomy.groups if not group.skippable}
    kept = {path: tuple(range(max(widths.get(path, 0), least.get(path, 0)))) for path in anatomy.sizes}
    return Plan(anatomy.sizes, kept, frozenset(path for path, units in kept.items() if not units))


def fit(
    anatomy: Anatomy, plans: Sequence[Plan], costs: Sequence[float]
) -> tuple[float, dict[str, tuple[tuple[int, float], ...]], float]:
    """Find the fixed cost and the curves that explain what plans cost.

    Returns:
        The fixed cost, every sort's corners, and the largest distance from a cost as a share of it.
    """
    sorts = sorts_of(anatomy)
    corners = {sort: widths_of(groups) for sort, groups in sorts.items()}
    rows = []
    for plan in plans:
        row = [1.0]
        for sort, groups in sorts.items():
            kept = np.array([plan.widths[group.path] for group in groups], dtype=float)[:, None]
            ends = np.array(corners[sort], dtype=float)
            starts = np.array([0.0, *ends[:-1]])
            row += (np.clip((kept - starts) / (ends - starts), 0, 1)).sum(0).tolist()
        rows.append(row)
    known = np.array(costs)
    relative = np.array(rows) / known[:, None]
    rises, _ = nnls(relative, np.ones(len(known)))
    # What seems to be free costs a trifle, so that what a unit is worth for its price is a number.
    rises[1:] = np.maximum(rises[1:], 1e-7 * known.max())
    spread = float(np.abs(relative @ rises - 1).max())
    curves, at = {}, 1
    for sort, widths in corners.items():
        costs_of = np.cumsum(rises[at : at + len(widths)])
        curves[sort] = tuple(zip(widths, costs_of.tolist(), strict=True))
        at += len(widths)
    return float(rises[0]), curves, spread


@contextmanager
def beside(
    whole: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    runtime: str,
    threads: int,
    seconds: float,
    repeats: int,
) -> Iterator[Callable[[PreTrainedModel], tuple[float, float]]]:
    """Yield what times a model beside the whole one: seconds that each takes for a clip of so many seconds.

    The whole one is prepared at the first call, and once.
    """
    clip = noise(seconds, 0)
    with tempfile.TemporaryDirectory() as folder:

        def listen_to(model: PreTrainedModel, inner: Path) -> Listen:
            place = save(with_fixed_output_length(model, seconds), processor, inner / "model")
            return listening(prepared(str(place), runtime, inner), runtime, threads)

        first = cache(lambda: listen_to(whole, Path(folder) / "whole"))

        def timed(model: PreTrainedModel) -> tuple[float, float]:
            with tempfile.TemporaryDirectory(dir=folder) as inner:
                return in_turns(listen_to(model, Path(inner)), first(), clip, threads=threads, repeats=repeats)

        yield timed


def in_turns(one: Listen, other: Listen, clip: np.ndarray, *, threads: int, repeats: int) -> tuple[float, float]:
    """Seconds that two listeners take for a clip when nothing disturbs them: the least over repeats in turns."""
    spent: tuple[list[float], list[float]] = ([], [])
    with using_threads(threads):
        for listen in (one, other):
            listen(clip)  # the first call lays memory out
        for _ in range(repeats):
            for times, listen in zip(spent, (one, other), strict=True):
                times.append(seconds_to(listen, clip, clock_for(threads)))
    return min(spent[0]), min(spent[1])


def machine() -> dict[str, str | int]:
    """The processor's name and the number of its cores."""
    told = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", told.read_text()) if told.exists() else None
    return {
        "processor": found[1].strip() if found else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
    }


def versions(runtime: str) -> dict[str, str]:
    """Of the libraries that compute in a runtime; those that are not installed are left out."""
    names = ("torch", "transformers", *(("onnxruntime",) if runtime.startswith("onnx") else ()))
    return {name: importlib.metadata.version(name) for name in names if find_spec(name)}
