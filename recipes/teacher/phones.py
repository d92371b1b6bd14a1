"""Phone boundaries of a recording, from flite's reading of its transcript by dynamic time warping."""

import subprocess
import tempfile
from dataclasses import dataclass

import numpy as np
import soundfile
from transformers.audio_utils import mel_filter_bank

from trimbre.data.audio import SAMPLE_RATE

HOP = SAMPLE_RATE // 100
FRAME = SAMPLE_RATE // 40
BINS = 512
BANDS = 40
FILTERS = mel_filter_bank(BINS // 2 + 1, BANDS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE)
FLOOR = 16  # nats below the maximum; what is lower counts as silence
DWELL = 0.1  # cost of a step in one of the two alone, so that a different tempo is not free


@dataclass(frozen=True)
class Phone:
    """A phone of a recording: from `start` to `end`, in samples."""

    name: str
    start: int
    end: int


def phones_of(clip: np.ndarray, text: str) -> tuple[list[Phone], float]:
    """The phones of a recording (samples,) with the transcript `text`, and its distance from flite's reading."""
    read, reading = read_by_flite(text)
    first, distance = align(_without_speaker(log_mel(reading)), _without_speaker(log_mel(clip)))
    within = [int(first[min(len(first) - 1, round(end * 100))]) * HOP for _, end in read[:-1]]
    ends = [min(len(clip), end) for end in within] + [len(clip)]
    starts = [0, *ends[:-1]]
    return [Phone(name, start, end) for (name, _), start, end in zip(read, starts, ends, strict=True)], distance


def read_by_flite(text: str) -> tuple[list[tuple[str, float]], np.ndarray]:
    """Every phone with its end in seconds, and the synthesised clip (samples,)."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        printed = _flite("-voice", "slt", "-psdur", "-t", text, "-o", file.name)
        clip, _ = soundfile.read(file.name, dtype="float32")
    pairs = (item.rsplit(":", 1) for item in printed.split())
    return [(name, float(end)) for name, end in pairs], clip


def spelled_by_flite(text: str) -> list[str]:
    """The phones of a text, by flite's fastest voice."""
    return _flite("-voice", "kal16", "-ps", "-t", text, "-o", "none").split()


def _flite(*options: str) -> str:
    return subprocess.run(["flite", *options], capture_output=True, text=True, check=True, timeout=60).stdout


def log_mel(clip: np.ndarray) -> np.ndarray:
    """Logarithms of the energy in mel bands (frames, bands), a frame every 10 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(clip, FRAME // 2), FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME), BINS)) ** 2
    mel = np.log(power @ FILTERS + 1e-10)
    return np.maximum(mel, mel.max() - FLOOR)


def align(reference: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, float]:
    """Align two sequences of frames by dynamic time warping.

    Args:
        reference: (frames, dim)
        query: (frames, dim)

    Returns:
        For each frame of `reference` its first frame of `query` on the path of least cost, and the mean cost per step.
    """
    squares = (reference**2).sum(1)[:, None] + (query**2).sum(1) - 2 * reference @ query.T
    cost = np.sqrt(np.maximum(squares, 0)) / np.sqrt(reference.shape[1])
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        dwelling = np.minimum(total[i, j + 1], total[i + 1, j]) + DWELL
        total[i + 1, j + 1] = cost[i, j] + np.minimum(total[i, j], dwelling)
    i, j, steps = rows, columns, 0
    first = np.full(rows, columns)
    while i > 0 and j > 0:
        first[i - 1] = min(first[i - 1], j - 1)
        steps += 1
        move = int(np.argmin((total[i - 1, j - 1], total[i - 1, j] + DWELL, total[i, j - 1] + DWELL)))
        i, j = i - (move != 2), j - (move != 1)
    return first, float(total[rows, columns] / steps)


def _without_speaker(mel: np.ndarray) -> np.ndarray:
    """Bands normalised by mean and deviation, which removes speaker and line, and their slopes: (frames, 2 bands)."""
    even = (mel - mel.mean(0)) / mel.std(0)
    return np.concatenate([even, 2 * np.gradient(even, axis=0)], 1)
