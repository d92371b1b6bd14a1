"""How big and how fast a recogniser is: parameters, arithmetic, and time measured side by side."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from trimbre.costs.macs import TOKENS_PER_SECOND
from trimbre.inference.long_form import transcriber
from trimbre.models.families.registry import head_of
from trimbre.models.heads.base import TextDecoder
from trimbre.models.inputs import SAMPLE_RATE
from trimbre.models.loading import Recogniser
from trimbre.progress import tracked


@dataclass(frozen=True)
class Spread:
    """A median over repeats, and the smallest and largest of them."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class RealTimeFactors:
    """Time to recognise over length of the audio, per model, features and decoding included."""

    threads: int
    repeats: int
    clips: int
    """How many were heard, one at a time."""
    audio_seconds: float
    """Length of all the clips."""
    factors: Mapping[str, Spread]
    """Seconds per second of audio; below 1 is faster than real time."""
    ratios: Mapping[str, Spread]
    """Time over the first model's time in the same repeat; below 1 is faster than the first model."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def real_time_factor(
    models: Mapping[str, Recogniser],
    *,
    clips: Sequence[np.ndarray],
    graph: TextDecoder | None = None,
    threads: int = 1,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> RealTimeFactors:
    """Time whole recognisers, clip by clip in turn, so that a busy machine slows them all alike.

    Each repeat recognises every clip with every model, one clip at a time, the order of the models reversed
    every other repeat; a clip that isn't timed warms each up. Ratios are taken within a repeat, then their
    median.

    Args:
        models: what to time, by name; the first is what the others are compared with. Switched to eval mode.
        clips: (samples,) each, mono at 16 kHz; long ones are heard in chunks, as `transcription.transcriber` does.
        graph: all decode by it instead of greedily.
        threads: torch's threads meanwhile; what was set before is restored.
        clock: tells the time, in seconds.

    Raises:
        ValueError: there is nothing to time.
    """
    audio_seconds = sum(len(clip) for clip in clips) / SAMPLE_RATE
    if not models or not audio_seconds or repeats < 1:
        raise ValueError("Timing needs at least one model, one clip that isn't empty and one repeat.")
    names = list(models)
    times = {name: [0.0] * repeats for name in names}
    with using_threads(threads):
        listeners = {name: transcriber(*models[name], graph) for name in names}
        for name in names:
            seconds_to(listeners[name], clips[0])
        for repeat in tracked(range(repeats), "timing"):
            order = names[::-1] if repeat % 2 else names
            for clip in clips:
                for name in order:
                    times[name][repeat] += seconds_to(listeners[name], clip, clock)
    first = times[names[0]]
    return RealTimeFactors(
        threads=threads,
        repeats=repeats,
        clips=len(clips),
        audio_seconds=audio_seconds,
        factors={name: spread([spent / audio_seconds for spent in times[name]]) for name in names},
        ratios={name: spread([a / b for a, b in zip(times[name], first, strict=True)]) for name in names},
    )


def times_faster(model: Recogniser, than: Recogniser, *, seconds: float = 10.0, repeats: int = 5) -> Spread:
    """How many times faster one recogniser is than another, on a clip of noise, by one thread of torch in float32."""
    clip = noise(seconds, 0)
    both = {"than": than, "model": model}
    heard = {
        name: Recogniser(with_fixed_output_length(one.model, seconds), one.processor) for name, one in both.items()
    }
    on_cpu = all(one.model.device.type == "cpu" for one in heard.values())
    clock = clock_for(1) if on_cpu else time.perf_counter
    ratio = real_time_factor(heard, clips=[clip], repeats=repeats, clock=clock).ratios["model"]
    return Spread(1 / ratio.median, 1 / ratio.high, 1 / ratio.low)


def noise(seconds: float, seed: int) -> np.ndarray:
    """A clip of so many seconds, (samples,) at 16 kHz, which a model without a decoder hears as long as speech."""
    draw = np.random.default_rng(seed)
    return (0.1 * draw.standard_normal(int(seconds * SAMPLE_RATE))).astype(np.float32)


def with_fixed_output_length(model: PreTrainedModel, seconds: float) -> PreTrainedModel:
    """Let a decoder, if there is one, write as many tokens whatever it hears: a cut one would babble or fall silent."""
    made: PreTrainedModel = head_of(model).with_text_length(model, round(TOKENS_PER_SECOND * seconds))
    return made


def seconds_to(
    listen: Callable[[np.ndarray], str], clip: np.ndarray, clock: Callable[[], float] = time.perf_counter
) -> float:
    """How long it takes to recognise one clip, (samples,) at 16 kHz."""
    start = clock()
    listen(clip)
    return clock() - start  # text is made on the CPU, so a GPU is done by then


def clock_for(threads: int) -> Callable[[], float]:
    """What tells the time: for one thread its own on the processor, which doesn't run while others are served.

    On a quiet machine that's the time on the wall, and on a busy one still what a quiet one takes.
    """
    fine = time.get_clock_info("thread_time").resolution < 1e-5
    return time.thread_time if threads == 1 and fine else time.perf_counter


def spread(values: Sequence[float]) -> Spread:
    """The median of repeats and their extremes."""
    return Spread(statistics.median(values), min(values), max(values))


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads, and afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
