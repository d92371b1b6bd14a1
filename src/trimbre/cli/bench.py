"""`trimbre bench`: how fast models are where they are deployed."""

from trimbre.cli.console import Json, Seed, app, show
from trimbre.options import BENCH_RUNTIMES


@app.command(
    help_epilogue="""Examples:

    trimbre bench models/telephone-en half

    trimbre bench MODEL half --runtimes onnx-fp32 onnx-int8 --threads 1 --json"""
)
def bench(
    *models: str,
    runtimes: tuple[str, ...] = BENCH_RUNTIMES,
    threads: tuple[int, ...] = (1, 2),
    repeats: int = 9,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Latency, real-time factor, memory, size and load time of models side by side, from audio to text.

    Parameters
    ----------
    models
        Directories or hub names; the first is what the others are compared with.
    runtimes
        torch-fp32, torch-bf16, onnx-fp32 and onnx-int8, or some of them; the last two export the models first.
    threads
        Numbers of threads to compute with.
    repeats
        How often each clip is heard; all are heard in turn, so that a busy machine slows them all alike.
    """
    from dataclasses import asdict

    from trimbre import report
    from trimbre.benchmarking import SECONDS
    from trimbre.benchmarking import bench as measure

    timings = measure(models=models, runtimes=runtimes, threads=threads, repeats=repeats, seed=seed)
    found = {"seconds": SECONDS, "repeats": repeats, "timings": [asdict(timing) for timing in timings]}
    return show(found, json, *report.benches(timings))
