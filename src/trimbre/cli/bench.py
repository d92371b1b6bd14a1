"""`trimbre bench`: latency, memory and size of models in the runtimes that they are deployed in."""

from collections.abc import Sequence
from pathlib import Path

from trimbre.cli.console import Device, Json, Seed, app, show
from trimbre.config import BENCH_RUNTIMES, BENCH_THREADS
from trimbre.errors import UserError


@app.command(
    help_epilogue="""Examples:

    trimbre bench models/telephone-en half

    trimbre bench MODEL half --runtimes onnx-fp32 onnx-int8 --threads 1 --json

    trimbre bench MODEL --table here.json --runtimes onnx-fp32 --threads 1"""
)
def bench(
    *models: str,
    runtimes: tuple[str, ...] | None = None,
    threads: tuple[int, ...] | None = None,
    repeats: int | None = None,
    table: Path | None = None,
    device: Device = "auto",
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Latency, real-time factor, memory, size and load time of models side by side, from audio to text.

    Parameters
    ----------
    models
        Directories, or OWNER/NAME[@REVISION] on the Hub; the first is what the others are compared with.
    runtimes
        torch-fp32, torch-bf16, onnx-fp32 and onnx-int8 (the default; onnx-fp32 for a table), or some of them. The last
        two export the models first and run on the CPU.
    threads
        Numbers of threads to compute with: 1 2 by default, 1 for a table.
    repeats
        Measurements of each clip, 9 by default and 40 for a table, in turn over all models, so that other load on the
        machine slows them alike.
    table
        Write a latency table of one model to this file instead: its time by the widths of its modules, in one runtime
        with one number of threads. trimbre prune --table reads it, also on another machine.
    """
    from dataclasses import asdict

    from trimbre.benchmark.bench import SECONDS
    from trimbre.benchmark.bench import bench as measure
    from trimbre.benchmark.latency_tables import REPEATS
    from trimbre.report.terminal import times

    if table is not None:
        for name, given in {"--device": device not in ("auto", "cpu"), "--seed": seed != 0}.items():
            if given:
                raise UserError(f"{name}: --table measures on the CPU and draws nothing, leave it out")
        return _table(models, runtimes, threads, REPEATS if repeats is None else repeats, table, json)
    runtimes, threads = runtimes or BENCH_RUNTIMES, threads or BENCH_THREADS
    repeats = 9 if repeats is None else repeats
    timings = measure(models, runtimes=runtimes, threads=threads, repeats=repeats, seed=seed, device=device)
    found = {"seconds": SECONDS, "repeats": repeats, "timings": [asdict(timing) for timing in timings]}
    return show(found, json, *times.benches(timings))


def _table(
    models: Sequence[str],
    runtimes: Sequence[str] | None,
    threads: Sequence[int] | None,
    repeats: int,
    out: Path,
    json: bool,
) -> int:
    """Write a latency table."""
    from trimbre.benchmark.latency_tables import write_table
    from trimbre.report.terminal import times

    if len(models) != 1:
        raise UserError(f"--table is of one model, and {len(models)} are given: name one")
    runtimes, threads = runtimes or ("onnx-fp32",), threads or (1,)
    for name, given in (("--runtimes", runtimes), ("--threads", threads)):
        if len(given) != 1:
            raise UserError(f"--table is of one runtime and one number of threads: give one with {name}")
    written = write_table(model=models[0], out=out, runtime=runtimes[0], threads=threads[0], repeats=repeats)
    return show(written.to_json(), json, *times.latency_table(written, out))
