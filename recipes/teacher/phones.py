"""Where the phones of a recording are: those of flite's reading of its transcript, by dynamic time warping."""

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
FLOOR = 16  # in natural logarithms below the loudest: what is fainter is silence
DWELL = 0.1  # cost of a step that moves on in one of the two only, or a slower speaker would cost nothing


@dataclass(frozen=True)
class Phone:
    """A phone of a recording: from `start` to `end`, in samples."""

    name: str
    start: int
    end: int


def phones_of(clip: np.ndarray, text: str) -> tuple[list[Phone], float]:
    """The phones of a recording (samples,) whose transcript is `text`, and how unlike flite's reading it sounds."""
    read, reading = read_by_flite(text)
    first, distance = warped(_without_speaker(log_mel(reading)), _without_speaker(log_mel(clip)))
    within = [int(first[min(len(first) - 1, round(end * 100))]) * HOP for _, end in read[:-1]]
    ends = [min(len(clip), end) for end in within] + [len(clip)]
    starts = [0, *ends[:-1]]
    return [Phone(name, start, end) for (name, _), start, end in zip(read, starts, ends, strict=True)], distance


def read_by_flite(text: str) -> tuple[list[tuple[str, float]], np.ndarray]:
    """Every phone and the time in seconds at which it ends, and the clip (samples,)."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        told = _flite("-voice", "slt", "-psdur", "-t", text, "-o", file.name)
        clip, _ = soundfile.read(file.name, dtype="float32")
    pairs = (item.rsplit(":", 1) for item in told.split())
    return [(name, float(end)) for name, end in pairs], clip


def spelled_by_flite(text: str) -> list[str]:
    """The phones of a text, by a voice that is soon done."""
    return _flite("-voice", "kal16", "-ps", "-t", text, "-o", "none").split()


def _flite(*options: str) -> str:
    return subprocess.run(["flite", *options], capture_output=True, text=True, check=True, timeout=60).stdout


def log_mel(clip: np.ndarray) -> np.ndarray:
    """Logarithms of the energy in mel bands (frames, bands), a frame every 10 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(clip, FRAME // 2), FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME), BINS)) ** 2
    mel = np.log(power @ FILTERS + 1e-10)
    return np.maximum(mel, mel.max() - FLOOR)


def warped(reference: np.ndarray, heard: np.ndarray) -> tuple[np.ndarray, float]:
    """For every frame of `reference` (frames, dim) the first frame of `heard` (frames, dim) that it is matched with,
    and the mean cost of a step of that path, the one that costs least in all."""
    squares = (reference**2).sum(1)[:, None] + (heard**2).sum(1) - 2 * reference @ heard.T
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
    """Each band without its mean and scale, the speaker's and the line's, and its slopes: (frames, 2 bands)."""
    even = (mel - mel.mean(0)) / mel.std(0)
    return np.concatenate([even, 2 * np.gradient(even, axis=0)], 1)
