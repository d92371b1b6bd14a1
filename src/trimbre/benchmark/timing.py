"""Recognition time of models side by side: real-time factors, speed-ups and the clocks that they are read from."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from trimbre.costs.macs import TOKENS_PER_SECOND
from trimbre.data.audio import SAMPLE_RATE, resample
from trimbre.inference.long_form import transcriber
from trimbre.models.device import device_of, synchronise
from trimbre.models.families.registry import head_of
from trimbre.models.heads.base import TextDecoder, Transcriber
from trimbre.models.inputs import rate_of
from trimbre.models.loading import Recogniser
from trimbre.progress import tracked

Transcribe = Callable[[np.ndarray], str]
"""Audio, (samples,) mono at the model's rate -> its text."""


@dataclass(frozen=True)
class Spread:
    """A median over repeats with the extremes."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class RealTimeFactors:
    """Recognition time over length of the audio for each model, features and decoding included."""

    threads: int
    repeats: int
    clips: int
    """Number of clips, recognised one at a time."""
    audio_seconds: float
    """Length of all clips."""
    factors: Mapping[str, Spread]
    """Seconds per second of audio; below 1 is faster than real time."""
    ratios: Mapping[str, Spread]
    """Time over the first model's time in the same repeat; below 1 is faster than the first model."""
    device: str = "cpu"
    """Device that the first model ran on."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def real_time_factor(
    models: Mapping[str, Recogniser],
    *,
    clips: Sequence[np.ndarray],
    rate: int = SAMPLE_RATE,
    graph: TextDecoder | None = None,
    threads: int = 1,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> RealTimeFactors:
    """Time whole recognisers on the devices that they are on, clip by clip in turn, so that load slows all alike.

    Each repeat recognises every clip with every model, one clip at a time, the order of the models reversed every
    other repeat; one untimed clip warms each model up. Ratios are taken within a repeat, then their median.

    Args:
        models: models to time by name; the first is what the others are compared with. Switched to eval mode.
        clips: (samples,) each, mono; long ones are recognised in chunks, as by `transcriber`.
        rate: sampling rate of the clips, in Hz; each model is given them at its own, which takes none of its time.
        graph: all decode by this graph instead of greedily.
        threads: torch's threads meanwhile; the previous number is restored.
        clock: reads the time, in seconds.

    Raises:
        ValueError: there is nothing to time.
    """
    audio_seconds = sum(len(clip) for clip in clips) / rate
    if not models or not audio_seconds or repeats < 1:
        raise ValueError("timing needs at least one model, one clip that is not empty and one repeat")
    names = list(models)
    times = {name: [0.0] * repeats for name in names}
    with using_threads(threads):
        recognisers = {name: timed_transcriber(*models[name], graph) for name in names}
        given = {name: [resample(clip, rate, one.rate) for clip in clips] for name, one in recognisers.items()}
        for name in names:
            seconds_to(recognisers[name], given[name][0])
        for repeat in tracked(range(repeats), "timing"):
            order = names[::-1] if repeat % 2 else names
            for number in range(len(clips)):
                for name in order:
                    times[name][repeat] += seconds_to(recognisers[name], given[name][number], clock)
    first = times[names[0]]
    return RealTimeFactors(
        threads=threads,
        repeats=repeats,
        clips=len(clips),
        audio_seconds=audio_seconds,
        factors={name: spread([spent / audio_seconds for spent in times[name]]) for name in names},
        ratios={name: spread([a / b for a, b in zip(times[name], first, strict=True)]) for name in names},
        device=str(device_of(models[names[0]].model)),
    )


def times_faster(model: Recogniser, than: Recogniser, *, seconds: float = 10.0, repeats: int = 5) -> Spread:
    """How many times faster one recogniser is than another, on a clip of noise, in PyTorch with one thread."""
    both = {
        name: Recogniser(with_fixed_output_length(one.model, seconds), one.processor)
        for name, one in (("than", than), ("model", model))
    }
    on_cpu = all(device_of(one.model).type == "cpu" for one in both.values())
    clock = clock_for(1) if on_cpu else time.perf_counter
    rate = rate_of(model.processor)
    clips = [noise(seconds, 0, rate)]
    ratio = real_time_factor(both, clips=clips, rate=rate, repeats=repeats, clock=clock).ratios["model"]
    return Spread(1 / ratio.median, 1 / ratio.high, 1 / ratio.low)


def timed_transcriber(model: Any, processor: Any, graph: TextDecoder | None = None) -> Transcriber:
    """`transcriber` that returns when the model's device is idle, so that a clock read around it sees all work."""
    run, device = transcriber(model, processor, graph), device_of(model)
    if device.type == "cpu":
        return run

    def waiting(clip: np.ndarray) -> str:
        synchronise(device)
        text = run(clip)
        synchronise(device)
        return text

    return replace(run, recognise=waiting)


def noise(seconds: float, seed: int, rate: int = SAMPLE_RATE) -> np.ndarray:
    """A clip of noise, (samples,) at `rate` Hz; a model without a decoder takes as long for it as for speech."""
    draw = np.random.default_rng(seed)
    return (0.1 * draw.standard_normal(int(seconds * rate))).astype(np.float32)


def with_fixed_output_length(model: PreTrainedModel, seconds: float) -> PreTrainedModel:
    """Fix how many tokens a decoder generates for a clip, so that models are timed on texts of equal length.

    Args:
        seconds: length of the clip; `TOKENS_PER_SECOND` are generated for each.

    Returns:
        A shallow copy, or the model itself where it has no decoder.
    """
    made: PreTrainedModel = head_of(model).with_text_length(model, round(TOKENS_PER_SECOND * seconds))
    return made


def seconds_to(transcribe: Transcribe, clip: np.ndarray, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds to recognise one clip, (samples,) at the model's rate."""
    start = clock()
    transcribe(clip)
    return clock() - start


def clock_for(threads: int) -> Callable[[], float]:
    """The clock for work of so many threads: the thread's own CPU time for one, wall-clock time for several.

    CPU time does not advance while other processes run: on an idle machine it equals wall-clock time, and on a busy one
    it is still what an idle one would take.
    """
    fine = time.get_clock_info("thread_time").resolution < 1e-5
    return time.thread_time if threads == 1 and fine else time.perf_counter


def spread(values: Sequence[float]) -> Spread:
    """The median of repeats and their extremes."""
    return Spread(statistics.median(values), min(values), max(values))


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Set torch's number of threads, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
