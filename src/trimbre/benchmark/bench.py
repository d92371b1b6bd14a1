"""Benchmark of recognisers as they are deployed: models, runtimes, precisions and threads side by side."""

import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trimbre.benchmark.memory import held_on
from trimbre.benchmark.timing import Spread, noise, seconds_to, spread, timed_transcriber, using_threads
from trimbre.config import BENCH_RUNTIMES
from trimbre.errors import UserError, at_least, one_of, usable_seed
from trimbre.inference.long_form import transcriber
from trimbre.models.checkpoint import save
from trimbre.models.device import resolve_device
from trimbre.models.heads.base import Transcriber
from trimbre.models.loading import load
from trimbre.models.source import ModelLike, resolve_model
from trimbre.progress import progress
from trimbre.training.low_memory import cast_matrices_to_bfloat16

SECONDS = (1.0, 5.0, 15.0)
"""Lengths of the clips whose latency is measured."""


@dataclass(frozen=True)
class Subject:
    """A model in one runtime with one number of threads."""

    model: str
    """Name or path, as the user gave it."""
    runtime: str
    """`torch-fp32`, `torch-bf16`, `onnx-fp32` or `onnx-int8`."""
    threads: int


@dataclass(frozen=True)
class Timing:
    """Measurements of one subject, from audio to text, features and decoding included."""

    subject: Subject
    latency: Mapping[str, Spread]
    """Seconds for one clip, by its length in seconds."""
    rtf: Spread
    """Seconds per second of audio, over one clip of each length."""
    against_first: Spread
    """How many times faster than the first model in the same runtime with as many threads."""
    against_plain: Spread
    """How many times faster than the first model in the first runtime with as many threads."""
    load_seconds: float
    """Time to load it in a process of its own that has imported the libraries."""
    peak_bytes: int | None
    """Peak memory of the device for loading it and recognising the longest clip, without the libraries' own; None where
    unknown."""
    file_bytes: int
    """Size of the weights on disk."""
    device: str = "cpu"
    """Device that it ran on."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def bench(
    models: str | Path | Sequence[str | Path] | Mapping[str, ModelLike],
    *,
    runtimes: Sequence[str] = BENCH_RUNTIMES,
    threads: Sequence[int] = (1, 2),
    repeats: int = 9,
    seed: int = 0,
    device: str | torch.device = "auto",
) -> list[Timing]:
    """Time models in runtimes, every combination in turn within each repeat, so that other load slows all alike.

    Args:
        models: directories or names on the Hub, or models in memory by the name to show; the first is what the others
            are compared with.
        runtimes: of `BENCH_RUNTIMES`; the models are exported for ONNX Runtime into a temporary folder.
        threads: numbers of threads to compute with.
        repeats: measurements of each clip; the order is reversed every other repeat.
        seed: of the noise in the clips. A CTC model takes as long for it as for speech; a Whisper's time depends on how
            much text it generates.
        device: where PyTorch runs; ONNX Runtime runs on the CPU.

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
    usable_seed("seed", seed)
    runtimes, threads, torch_device = _once(runtimes), _once(threads), resolve_device(device)
    devices = {runtime: torch_device if _in_torch(runtime) else torch.device("cpu") for runtime in runtimes}
    with tempfile.TemporaryDirectory() as folder:
        named = _paths(models, Path(folder) / "models")
        keys = [(model, runtime) for model in named for runtime in runtimes]
        loads, places = {}, {}
        with progress("prepare", len(keys)) as show:
            for done, (model, runtime) in enumerate(keys, 1):
                place = prepare(named[model], runtime, Path(folder) / "exports")
                places[model, runtime] = place
                loads[model, runtime] = _loading(place, runtime, devices[runtime], max(SECONDS))
                show(done)
        subjects = [Subject(m, runtime, count) for count in threads for runtime in runtimes for m in named]
        times = _times(
            {
                s: load_transcriber(places[s.model, s.runtime], s.runtime, s.threads, devices[s.runtime])
                for s in subjects
            },
            repeats,
            seed,
        )
        files = {key: _weights(place, key[1]) for key, place in places.items()}
    return [_timing(subject, subjects[0], times, loads, files, str(devices[subject.runtime])) for subject in subjects]


def _timing(
    subject: Subject,
    first: Subject,
    times: Mapping[Subject, Mapping[float, Sequence[float]]],
    loads: Mapping[tuple[str, str], tuple[float, int | None]],
    files: Mapping[tuple[str, str], int],
    device: str,
) -> Timing:
    """The measurements of a subject, beside those of the first model in its own and in the first runtime."""
    totals = _totals(times[subject])
    same = _totals(times[Subject(first.model, subject.runtime, subject.threads)])
    plain = _totals(times[Subject(first.model, first.runtime, subject.threads)])
    load_seconds, peak = loads[subject.model, subject.runtime]
    return Timing(
        subject,
        {f"{length:g}": spread(spent) for length, spent in times[subject].items()},
        spread([total / sum(SECONDS) for total in totals]),
        spread([a / b for a, b in zip(same, totals, strict=True)]),
        spread([a / b for a, b in zip(plain, totals, strict=True)]),
        load_seconds,
        peak,
        files[subject.model, subject.runtime],
        device,
    )


def _once(given: Iterable[Any]) -> list[Any]:
    """The values given, in their order, without repeats."""
    return list(dict.fromkeys(given))


def _paths(models: str | Path | Sequence[str | Path] | Mapping[str, ModelLike], folder: Path) -> dict[str, str]:
    """Name -> path of every model; models in memory are saved to `folder`, for other processes load them too.

    Every one is loaded once, so that a bad one is refused before the first is measured.
    """
    if isinstance(models, str | Path):
        models = [models]
    named = models if isinstance(models, Mapping) else {str(model): model for model in models}
    return {
        name: str(
            _checked(model)
            if isinstance(model, str | Path)
            else save(*resolve_model(model).recogniser, folder / f"{number}")
        )
        for number, (name, model) in enumerate(named.items())
    }


def _checked(model: str | Path) -> Path:
    """The directory of a model that can be loaded; raises UserError for any other."""
    folder = resolve_model(model).path
    assert folder is not None  # it was given by its path
    return folder


def _in_torch(runtime: str) -> bool:
    return runtime.startswith("torch")


def _times(
    transcribers: Mapping[Subject, Transcriber], repeats: int, seed: int
) -> dict[Subject, dict[float, list[float]]]:
    """Seconds of every subject for every length, repeat by repeat."""
    rates = {transcribe.rate for transcribe in transcribers.values()}
    clips = {(length, rate): noise(length, seed, rate) for length in SECONDS for rate in rates}
    times: dict[Subject, dict[float, list[float]]] = {s: {length: [] for length in SECONDS} for s in transcribers}
    order = list(transcribers)
    with progress("bench", repeats) as show:
        show(0)
        for subject, transcribe in transcribers.items():  # the first call of each size allocates memory
            with using_threads(subject.threads):
                for length in SECONDS:
                    transcribe(clips[length, transcribe.rate])
        for repeat in range(repeats):
            for length in SECONDS:
                for subject in order[::-1] if repeat % 2 else order:
                    transcribe = transcribers[subject]
                    with using_threads(subject.threads):
                        times[subject][length].append(seconds_to(transcribe, clips[length, transcribe.rate]))
            show(repeat + 1)
    return times


def _totals(times: Mapping[float, Sequence[float]]) -> list[float]:
    """Seconds for one clip of each length together, repeat by repeat."""
    return [sum(spent) for spent in zip(*times.values(), strict=True)]


def prepare(model: str, runtime: str, folder: Path) -> str:
    """The directory that a runtime loads: the model's own, or a new one in `folder` that it is exported to."""
    if _in_torch(runtime):
        return model
    from trimbre.exporting.export import export

    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{len(list(folder.iterdir()))}"
    export(model=model, to="onnx", out=out, precision=runtime.removeprefix("onnx-"))
    return str(out)


def load_transcriber(place: str, runtime: str, threads: int, device: torch.device) -> Transcriber:
    """Load what `prepare` gave into its runtime, as a function from a clip to its text."""
    if not _in_torch(runtime):
        from trimbre.exporting.runtime import load_exported

        return transcriber(*load_exported(place, threads=threads))
    model: Any
    model, processor = load(place)
    half = runtime == "torch-bf16"
    if half:
        cast_matrices_to_bfloat16(model)
    model.to(device)
    run = timed_transcriber(model, processor)

    def recognise(clip: np.ndarray) -> str:
        with torch.autocast(device.type, dtype=torch.bfloat16) if half else nullcontext():
            return run(clip)

    return replace(run, recognise=recognise)


def _loading(place: str, runtime: str, device: torch.device, seconds: float) -> tuple[float, int | None]:
    """Seconds to load a model into its runtime, and the memory that it takes, in a process that holds nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_loading_here, (place, runtime, str(device), seconds))


def _loading_here(place: str, runtime: str, device: str, seconds: float) -> tuple[float, int | None]:
    if not _in_torch(runtime):
        import onnxruntime  # noqa: F401  so that its own import is not counted
    there = torch.device(device)
    with using_threads(1):
        before, start = held_on(there), time.perf_counter()
        transcribe = load_transcriber(place, runtime, 1, there)
        took = time.perf_counter() - start
        transcribe(noise(seconds, 0, transcribe.rate))
        after = held_on(there, peak=True)
    return took, None if before is None or after is None else after - before


def _weights(place: str, runtime: str) -> int:
    """Bytes of the files that hold weights."""
    suffixes = (".safetensors",) if _in_torch(runtime) else (".onnx", ".data")
    return sum(file.stat().st_size for file in Path(place).glob("*") if file.suffix in suffixes)
