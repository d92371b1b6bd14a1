"""Recognise audio files of any length."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trimbre.data.audio import read_audio
from trimbre.errors import UserError
from trimbre.inference.greedy import Graph, blank_id, frame_labels, frame_scores, greedy, spell
from trimbre.models.inputs import SAMPLE_RATE, features_of, output_lengths, window_of

CHUNK_SECONDS = 20.0
"""How much of a long recording a model sees at once."""


@dataclass(frozen=True)
class Transcript:
    """What was said in one file."""

    file: str
    """The path as it was given."""
    text: str
    seconds: float
    """Length of the audio."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def transcribe(
    *, model: nn.Module, processor: Any, files: Iterable[str | Path], graph: Graph | None = None, **chunks: float
) -> Iterator[Transcript]:
    """Recognise files one after the other, each in any format that libsndfile or FFmpeg reads.

    Args:
        model: a model of transformers with a CTC head or a decoder; switched to eval mode.
        graph: decodes by it instead of greedily; for CTC models.
        chunks: `chunk_seconds` and `overlap_seconds`, as `transcriber` takes them.

    Yields:
        One transcript per file, as soon as it's there.

    Raises:
        UserError: a file can't be read, or the overlap isn't shorter than the chunk.
    """
    listen = transcriber(model, processor, graph, **chunks)
    for file in files:
        audio = read_audio(file)
        yield Transcript(str(file), listen(audio), len(audio) / SAMPLE_RATE)


def transcriber(
    model: nn.Module,
    processor: Any,
    graph: Graph | None = None,
    *,
    chunk_seconds: float = CHUNK_SECONDS,
    overlap_seconds: float = 4.0,
) -> Callable[[np.ndarray], str]:
    """A function from audio of any length, (samples,) mono at 16 kHz, to its text.

    Args:
        model: a CTC model or a Whisper of transformers; switched to eval mode.
        graph: decodes by it instead of greedily; for CTC models.
        chunk_seconds: how much audio the model sees at once: memory is bounded by it, but for a graph's, which reads
            the scores of all frames at once. Whisper has a window of its own and no use for this and for the overlap.
        overlap_seconds: how much of it the next chunk sees again, half of it as context for each of the two.

    Raises:
        UserError: the overlap isn't shorter than the chunk.
    """
    if chunk_seconds < 1:
        raise UserError(f"a chunk of {chunk_seconds:g} s is too short to recognise anything in: give 1 s or more")
    if not 0 <= overlap_seconds < chunk_seconds:
        raise UserError(f"an overlap of {overlap_seconds:g} s must be shorter than the chunk, {chunk_seconds:g} s")
    model.eval()
    if window := window_of(processor):
        return partial(_heard_in_windows, model=model, processor=processor, window=window * SAMPLE_RATE)
    stride, blank = samples_per_frame(model, processor), blank_id(model)
    chunk, context = (int(seconds * SAMPLE_RATE) // stride for seconds in (chunk_seconds, overlap_seconds / 2))

    def frames_of(audio: np.ndarray) -> np.ndarray:
        inputs = features_of([audio], processor)
        return np.array(frame_labels(model, inputs)[0]) if graph is None else frame_scores(model, inputs)[0]

    def listen(audio: np.ndarray) -> str:
        if not len(audio):
            return ""
        frames = frames_in_chunks(audio, frames_of, stride=stride, chunk=chunk, context=context)
        return spell(frames.tolist(), processor=processor, blank=blank) if graph is None else graph.text(frames)

    return listen


def frames_in_chunks(
    audio: np.ndarray, frames_of: Callable[[np.ndarray], np.ndarray], *, stride: int, chunk: int, context: int
) -> np.ndarray:
    """The output frames of a recording of any length, seen one chunk at a time.

    Where two chunks meet, each gives its frames up to the middle of their overlap, and what lies beyond is
    only context. Merging repeats over all frames then neither cuts nor doubles a word. Feature extractors
    that normalise per utterance (Parakeet's) do so per chunk here.

    Args:
        audio: (samples,) mono at 16 kHz. At most one chunk long, it's seen whole.
        frames_of: what is made of a chunk, (frames, ...): labels, or scores of labels.
        stride: samples per output frame (`samples_per_frame`).
        chunk: output frames that are made at once.
        context: output frames on each side of a chunk that only its neighbour gives; under half the chunk.

    Returns:
        (frames, ...).
    """
    if len(audio) <= chunk * stride:
        return frames_of(audio)
    # The last chunk is moved back to be as long as the others: a short one would have little context.
    last = -(-len(audio) // stride) - chunk
    starts = [*range(0, last, max(chunk - 2 * context, 1)), last]
    parts = []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        seen = frames_of(audio[start * stride : (start + chunk) * stride])
        begin = context if start else 0
        parts.append(seen[begin : None if following is None else following + context - start])
    return np.concatenate(parts)


def _heard_in_windows(audio: np.ndarray, *, model: Any, processor: Any, window: int) -> str:
    """Whisper's text of a recording of any length: windows beside each other, cut where it's quietest.

    Its decoder writes text and not frames, so that the texts of overlapping windows would have words twice.
    """
    texts = []
    while len(audio):
        end = len(audio) if len(audio) <= window else _quietest(audio[window * 2 // 3 : window]) + window * 2 // 3
        texts += greedy(model, features_of([audio[:end]], processor), processor)
        audio = audio[end:]
    return " ".join(text for text in texts if text)


def _quietest(audio: np.ndarray) -> int:
    """The middle of the quietest fifth of a second, in samples."""
    width = SAMPLE_RATE // 5
    energy = np.cumsum(np.square(audio, dtype=np.float64))
    return int(np.argmin(energy[width:] - energy[:-width])) + width // 2


def samples_per_frame(model: nn.Module, processor: Any) -> int:
    """Samples that one output frame stands for, from the model's own length arithmetic."""
    lengths = []
    for seconds in (10, 20):
        inputs = features_of([np.zeros(seconds * SAMPLE_RATE, dtype=np.float32)], processor)
        features = inputs[processor.feature_extractor.model_input_names[0]]
        inputs["attention_mask"] = torch.ones(features.shape[:2], dtype=torch.long)
        frames = output_lengths(model, inputs)
        assert frames is not None  # there is a mask
        lengths.append(int(frames))
    return round(10 * SAMPLE_RATE / (lengths[1] - lengths[0]))
