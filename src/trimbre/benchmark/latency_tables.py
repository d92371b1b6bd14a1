"""Measurement of latency tables: a model cut to many widths, each timed beside the dense model, and fitted curves.

Tables are measured on the CPU, in any runtime of `bench`.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.benchmark.bench import load_transcriber, prepare
from trimbre.benchmark.timing import (
    Transcribe,
    clock_for,
    noise,
    seconds_to,
    using_threads,
    with_fixed_output_length,
)
from trimbre.config import BENCH_RUNTIMES, LatencyConfig
from trimbre.costs.latency import FORMAT, LatencyTable, check_fits, curve_key, signature_of
from trimbre.costs.macs import reference_of
from trimbre.data.audio import SAMPLE_RATE
from trimbre.errors import UserError, at_least, one_of
from trimbre.files import cache_folder, refuse_file
from trimbre.models.anatomy import Anatomy, Group
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.inputs import rate_of
from trimbre.models.loading import Recogniser
from trimbre.models.source import ModelLike, resolve_model
from trimbre.plan import Plan
from trimbre.progress import progress
from trimbre.pruning.surgery import cut

SHARES = (1.0, 0.75, 0.5, 0.25, 1 / 16)
"""Measured widths of feed-forwards and convolutions, as shares of the widest."""
HEADS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Measured numbers of attention heads; few heads are measured finely, where the time of a head varies most."""
REPEATS = 40
"""Measurements of a cut model and of the dense one, interleaved; cheap beside an export, and the least is used."""
MODULES = 8
"""Number of modules of a sort that stay when it is measured alone; more would only slow the measurement down."""
Compare = Callable[[Plan], tuple[float, float]]
"""A plan -> seconds of the model cut by it and of the dense model, for one clip, measured in alternation."""
CPU = torch.device("cpu")


def table_for(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    name: str,
    options: LatencyConfig,
    compare: Compare | None = None,
) -> LatencyTable:
    """The table that the options name, or one that this machine measured before, or one measured now and cached.

    Args:
        name: name of the model in a table that is measured now.
        compare: gives the times instead of the clock.

    Raises:
        UserError: the file is no latency table, or a table of another model.
    """
    anatomy = anatomy_of(model)
    if options.table is not None:
        table = LatencyTable.load(Path(options.table))
        check_fits(table, model, anatomy, options.table, rate_of(processor))
        return table
    with suppress(UserError):  # none yet, or a cache that cannot be read
        return LatencyTable.load(cache_path(model, anatomy, options.runtime, options.threads, rate_of(processor)))
    runtime, threads = options.runtime, options.threads
    table = measure(model, processor, name=name, runtime=runtime, threads=threads, compare=compare)
    with suppress(UserError, OSError):  # a cache that cannot be written only costs the time to measure again
        table.save(cache_path(model, anatomy, options.runtime, options.threads, rate_of(processor)))
    return table


def write_table(
    *, model: ModelLike, out: str | Path, runtime: str, threads: int = 1, repeats: int = REPEATS
) -> LatencyTable:
    """Measure a recogniser and write its table to a file, whole or not at all.

    Raises:
        UserError: the model cannot be loaded or run there, or `out` cannot be written or is no latency table.
    """
    out = Path(out)
    refuse_file(out, "table", replaceable=LatencyTable.load)
    source = resolve_model(model)
    table = measure(*source.recogniser, name=source.name, runtime=runtime, threads=threads, repeats=repeats)
    table.save(out)
    return table


def cache_path(model: PreTrainedModel, anatomy: Anatomy, runtime: str, threads: int, rate: int = SAMPLE_RATE) -> Path:
    """Path of a table in the user's cache, which differs by machine, versions of libraries and shape of the model."""
    described = json.dumps([machine(), versions(runtime), FORMAT, sorted(anatomy.sizes.items())])
    key = hashlib.sha256(described.encode()).hexdigest()[:16]
    return cache_folder() / "latency" / f"{signature_of(model, anatomy, rate)}-{runtime}-{threads}-{key}.json"


def time_beside_dense(
    dense: Recogniser, small: PreTrainedModel, table: LatencyTable, *, repeats: int = REPEATS
) -> dict[str, float] | None:
    """Measured seconds per second of audio of a cut model and of the dense one, in a table's runtime and threads.

    None where the table is of another machine or of other versions of the libraries.
    """
    if table.machine != machine() or table.versions != versions(table.runtime):
        return None
    with timed_beside(
        *dense, runtime=table.runtime, threads=table.threads, seconds=table.seconds, repeats=repeats
    ) as timed:
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
    """Measure the latency of a recogniser by the widths of its modules, in one runtime on this machine.

    Every sort of module is measured at several widths with all other modules removed, so that its own time dominates,
    and all sorts together at several shares, so that their sum is right too. Non-negative least squares on relative
    errors then give the fixed time and the increments of every curve, so that no curve falls.

    Args:
        name: name of the model in the table.
        runtime: one of `BENCH_RUNTIMES`.
        threads: threads to compute with.
        repeats: measurements of each cut model and of the dense one.
        compare: gives the times instead of the clock.

    Raises:
        UserError: the model cannot run there.
    """
    one_of("runtime", runtime, BENCH_RUNTIMES)
    at_least("threads", threads, 1)
    at_least("repeats", repeats, 1)
    anatomy = anatomy_of(model)
    seconds = reference_of(model, processor).seconds
    plans = list(plans_of(anatomy))
    ratios, dense = [1.0], math.inf
    with (
        timed_beside(model, processor, runtime=runtime, threads=threads, seconds=seconds, repeats=repeats) as timed,
        progress("latency", len(plans)) as show,
    ):
        for done, plan in enumerate(plans[1:], 2):
            spent, other = timed(cut(model, plan)) if compare is None else compare(plan)
            ratios.append(spent / other)
            dense = min(dense, other)
            show(done, share=ratios[-1])
    fixed, curves, spread = fit(anatomy, plans, [ratio * dense / seconds for ratio in ratios])
    return LatencyTable(
        model=name,
        signature=signature_of(model, anatomy, rate_of(processor)),
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
    """Groups that share a curve, by its name (`curve_key`); the channels of a front end have none and stay."""
    sorts: dict[str, list[Group]] = {}
    for group in filter(lambda one: one.residual, anatomy.groups):
        sorts.setdefault(curve_key(group), []).append(group)
    return sorts


def widths_of(groups: Sequence[Group]) -> list[int]:
    """Widths of the corners of a curve, ascending."""
    narrowest, widest = (chosen(group.size for group in groups) for chosen in (min, max))
    if groups[0].kind.rows > 1:
        return sorted({min(heads, widest) for heads in (*HEADS, widest)})
    return sorted({narrowest, *(max(1, round(share * widest)) for share in SHARES)})


def plans_of(anatomy: Anatomy) -> Iterator[Plan]:
    """The plans that are measured, the dense model's first."""
    sorts = sorts_of(anatomy)
    yield Plan.everything(anatomy.sizes)
    least = {group.path: widths_of(groups)[0] for groups in sorts.values() for group in groups}
    for share in (0.5, 0.25):
        yield narrowed(anatomy, {p: max(round(share * anatomy.sizes[p]), width) for p, width in least.items()})
    yield narrowed(anatomy, {})
    for groups in sorts.values():
        for width in widths_of(groups):
            some = sorted(groups, key=lambda group: -group.size)[:MODULES]
            yield narrowed(anatomy, {group.path: min(width, group.size) for group in some})


def narrowed(anatomy: Anatomy, widths: Mapping[str, int]) -> Plan:
    """The plan that keeps so many units of each module and all channels of a front end, and skips modules without."""
    least = {
        group.path: min(group.least, group.size) if group.residual else group.size
        for group in anatomy.groups
        if not group.skippable
    }
    kept = {path: tuple(range(max(widths.get(path, 0), least.get(path, 0)))) for path in anatomy.sizes}
    return Plan(anatomy.sizes, kept, frozenset(path for path, units in kept.items() if not units))


def fit(
    anatomy: Anatomy, plans: Sequence[Plan], costs: Sequence[float]
) -> tuple[float, dict[str, tuple[tuple[int, float], ...]], float]:
    """Fit the fixed cost and the curves to the costs of plans.

    Returns:
        The fixed cost, the corners of every sort's curve, and the largest relative error of the fit.
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
    # A curve without cost gets a tiny one, for allocation divides scores by costs.
    rises[1:] = np.maximum(rises[1:], 1e-7 * known.max())
    spread = float(np.abs(relative @ rises - 1).max())
    curves, at = {}, 1
    for sort, widths in corners.items():
        costs_of = np.cumsum(rises[at : at + len(widths)])
        curves[sort] = tuple(zip(widths, costs_of.tolist(), strict=True))
        at += len(widths)
    return float(rises[0]), curves, spread


@contextmanager
def timed_beside(
    dense: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    runtime: str,
    threads: int,
    seconds: float,
    repeats: int,
) -> Iterator[Callable[[PreTrainedModel], tuple[float, float]]]:
    """Yield a function that times a model beside the dense one: seconds that each takes for a clip of `seconds`.

    The dense model is prepared once, at the first call.
    """
    clip = noise(seconds, 0, rate_of(processor))
    with tempfile.TemporaryDirectory() as folder:

        def loaded(model: PreTrainedModel, inner: Path) -> Transcribe:
            place = save(with_fixed_output_length(model, seconds), processor, inner / "model")
            return load_transcriber(prepare(str(place), runtime, inner / "export"), runtime, threads, CPU)

        first = cache(lambda: loaded(dense, Path(folder) / "dense"))

        def timed(model: PreTrainedModel) -> tuple[float, float]:
            with tempfile.TemporaryDirectory(dir=folder) as inner:
                return time_alternately(loaded(model, Path(inner)), first(), clip, threads=threads, repeats=repeats)

        yield timed


def time_alternately(
    one: Transcribe, other: Transcribe, clip: np.ndarray, *, threads: int, repeats: int
) -> tuple[float, float]:
    """Seconds of two transcribers for a clip on an undisturbed machine: the least over alternating repeats."""
    spent: tuple[list[float], list[float]] = ([], [])
    with using_threads(threads):
        for transcribe in (one, other):
            transcribe(clip)  # the first call allocates memory
        for _ in range(repeats):
            for times, transcribe in zip(spent, (one, other), strict=True):
                times.append(seconds_to(transcribe, clip, clock_for(threads)))
    return min(spent[0]), min(spent[1])


def machine() -> dict[str, str | int]:
    """Name of the processor and number of its cores."""
    listed = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", listed.read_text()) if listed.exists() else None
    return {
        "processor": found[1].strip() if found else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
    }


def versions(runtime: str) -> dict[str, str]:
    """Versions of the libraries of a runtime; those that are not installed are left out."""
    names = ("torch", "transformers", *(("onnxruntime",) if runtime.startswith("onnx") else ()))
    return {name: importlib.metadata.version(name) for name in names if find_spec(name)}
