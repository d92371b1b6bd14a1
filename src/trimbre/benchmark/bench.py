"""How fast recognisers are where they are deployed: runtimes, precisions and threads side by side in one run."""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trimbre.benchmark.memory import resident
from trimbre.benchmark.timing import Spread, noise, seconds_to, spread, using_threads
from trimbre.config import BENCH_RUNTIMES
from trimbre.errors import UserError, at_least, one_of
from trimbre.inference.long_form import transcriber
from trimbre.models.checkpoint import save
from trimbre.models.loading import load
from trimbre.models.source import ModelLike, resolve_model
from trimbre.progress import progress
from trimbre.training.low_memory import cast_matrices_to_bfloat16

SECONDS = (1.0, 5.0, 15.0)
"""Lengths of the clips whose latency is measured."""
Listen = Callable[[np.ndarray], str]


@dataclass(frozen=True)
class Subject:
    """A model in one runtime with one number of threads."""

    model: str
    """As it was named by the user."""
    runtime: str
    """`torch-fp32`, `torch-bf16`, `onnx-fp32` or `onnx-int8`."""
    threads: int


@dataclass(frozen=True)
class Timing:
    """What one subject took; audio to text, features and decoding included."""

    subject: Subject
    latency: Mapping[str, Spread]
    """Seconds for one clip, by its length in seconds."""
    rtf: Spread
    """Seconds per second of audio, over one clip of each length."""
    against_first: Spread
    """How many times faster than the first model in the same runtime and with as many threads."""
    against_plain: Spread
    """How many times faster than the first model in the first runtime, with as many threads."""
    load_seconds: float
    """Time to load it in a process of its own that has imported the libraries."""
    peak_bytes: int | None
    """Memory that loading it and hearing the longest clip took there beyond the libraries; None where unknown."""
    file_bytes: int
    """Size of the weights on disk."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def bench(
    models: str | Path | Sequence[str | Path] | Mapping[str, ModelLike],
    *,
    runtimes: Sequence[str] = BENCH_RUNTIMES,
    threads: Sequence[int] = (1, 2),
    repeats: int = 9,
    seed: int = 0,
) -> list[Timing]:
    """Time models in runtimes, every combination in turn within each repeat, so that a busy machine slows all alike.

    Args:
        models: directories or Hub ids, or models in memory by the name to show; the first is what the others are
            compared with.
        runtimes: of `BENCH_RUNTIMES`; the models are exported for ONNX Runtime into a temporary folder.
        threads: numbers of threads to compute with.
        repeats: measurements of each clip; the order is turned round every other time.
        seed: the clips are noise, drawn from it, which takes as long as speech; but a Whisper's time depends on how
            much text it makes of it.

    Raises:
        UserError: a model that cannot be loaded or exported.
    """
    if not models:
        raise UserError("no model given: name one or more")
    for runtime in runtimes:
        one_of("runtimes", runtime, BENCH_RUNTIMES)
    for count in threads:
        at_least("threads", count, 1)
    at_least("repeats", repeats, 1)
    runtimes, threads = _once(runtimes), _once(threads)
    with tempfile.TemporaryDirectory() as folder:
        files = _as_directories(models, Path(folder))
        names = list(files)
        places = {(m, runtime): prepared(files[m], runtime, Path(folder)) for m in names for runtime in runtimes}
        subjects = [Subject(m, runtime, count) for count in threads for runtime in runtimes for m in names]
        alone = {key: _alone(place, key[1], max(SECONDS)) for key, place in places.items()}
        listeners = {s: listening(places[s.model, s.runtime], s.runtime, s.threads) for s in subjects}
        times = _times(listeners, repeats, seed)
        sizes = {key: _weights(place, key[1]) for key, place in places.items()}
    found = []
    for subject in subjects:
        totals = _totals(times[subject])
        same = _totals(times[Subject(names[0], subject.runtime, subject.threads)])
        plain = _totals(times[Subject(names[0], runtimes[0], subject.threads)])
        key = subject.model, subject.runtime
        found.append(
            Timing(
                subject,
                {f"{length:g}": spread(spent) for length, spent in times[subject].items()},
                spread([total / sum(SECONDS) for total in totals]),
                spread([a / b for a, b in zip(same, totals, strict=True)]),
                spread([a / b for a, b in zip(plain, totals, strict=True)]),
                alone[key][0],
                alone[key][1],
                sizes[key],
            )
        )
    return found


def _as_directories(
    models: str | Path | Sequence[str | Path] | Mapping[str, ModelLike], folder: Path
) -> dict[str, str]:
    """Where each model can be loaded from, by its name; those in memory are written to a new folder in `folder`."""
    if isinstance(models, str | Path):
        models = [models]
    named = models if isinstance(models, Mapping) else {str(model): model for model in models}
    places = {}
    for name, model in named.items():
        if isinstance(model, str | Path):
            places[name] = str(model)
            continue
        recogniser = resolve_model(model).recogniser
        places[name] = str(save(*recogniser, folder / "models" / str(len(places))))
    return places


def _once(given: Sequence[Any]) -> list[Any]:
    """What is given, in its order, without repeats."""
    return list(dict.fromkeys(given))


def _times(listeners: Mapping[Subject, Listen], repeats: int, seed: int) -> dict[Subject, dict[float, list[float]]]:
    """Seconds of every subject for every length, repeat by repeat."""
    clips = {length: noise(length, seed) for length in SECONDS}
    times: dict[Subject, dict[float, list[float]]] = {s: {length: [] for length in SECONDS} for s in listeners}
    for subject, listen in listeners.items():  # the first call of each size lays memory out
        with using_threads(subject.threads):
            for clip in clips.values():
                listen(clip)
    order = list(listeners)
    with progress("bench", repeats) as show:
        for repeat in range(repeats):
            for length, clip in clips.items():
                for subject in order[::-1] if repeat % 2 else order:
                    with using_threads(subject.threads):
                        times[subject][length].append(seconds_to(listeners[subject], clip))
            show(repeat + 1)
    return times


def _totals(times: Mapping[float, Sequence[float]]) -> list[float]:
    """Seconds for a clip of each length together, repeat by repeat."""
    return [sum(spent) for spent in zip(*times.values(), strict=True)]


def prepared(model: str, runtime: str, folder: Path) -> str:
    """What the runtime loads: the model itself, or a directory that it's exported to."""
    if runtime.startswith("torch"):
        return model
    from trimbre.exporting.export import export

    out = folder / f"{len(list(folder.iterdir()))}"
    export(model=model, to="onnx", out=out, precision=runtime.removeprefix("onnx-"))
    return str(out)


def listening(place: str, runtime: str, threads: int) -> Listen:
    """A function from a clip to its text."""
    if runtime.startswith("onnx"):
        from trimbre.exporting.runtime import load_exported

        return transcriber(*load_exported(place, threads=threads))
    model, processor = load(place)
    half = runtime == "torch-bf16"
    if half:
        cast_matrices_to_bfloat16(model)
    return partial(_heard, transcriber(model, processor), model.device.type, half)


def _heard(listen: Listen, device: str, half: bool, clip: np.ndarray) -> str:
    with torch.autocast(device, dtype=torch.bfloat16) if half else nullcontext():
        return listen(clip)


def _alone(place: str, runtime: str, seconds: float) -> tuple[float, int | None]:
    """Seconds to load a subject, and the memory that it takes, measured in a process that holds nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured_alone, (place, runtime, seconds))


def _measured_alone(place: str, runtime: str, seconds: float) -> tuple[float, int | None]:
    if runtime.startswith("onnx"):
        import onnxruntime  # noqa: F401  a library, not the model
    with using_threads(1):
        before, start = resident(), time.perf_counter()
        listen = listening(place, runtime, 1)
        took = time.perf_counter() - start
        listen(noise(seconds, 0))
        after = resident(at_most=True)
    return took, None if before is None or after is None else after - before


def _weights(place: str, runtime: str) -> int:
    """Bytes of the files that hold weights."""
    suffixes = (".onnx", ".data") if runtime.startswith("onnx") else (".safetensors",)
    files = [file for file in Path(place).glob("*") if file.suffix in suffixes] if Path(place).is_dir() else []
    return sum(file.stat().st_size for file in files)
