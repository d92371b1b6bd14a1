"""Augmentation of training audio: speed, reverberation, noise, telephone band, shift within a hop, SpecAugment."""

from collections.abc import Mapping, Sequence

import numpy as np
import soxr
import torch
from scipy.signal import fftconvolve
from torch import Tensor

from trimbre.config import AugmentConfig
from trimbre.data.audio import SAMPLE_RATE

HOP = 0.01
"""Seconds between two frames of a spectrogram, in all models that take one."""


def augment_clips(
    clips: Sequence[np.ndarray], options: AugmentConfig, draw: np.random.Generator, rate: int = SAMPLE_RATE
) -> list[np.ndarray]:
    """Augment clips, (samples,) float32 at `rate` Hz each; every random choice comes from `draw`."""
    changed = []
    for position, clip in enumerate(clips):
        if draw.random() < options.speed:
            clip = soxr.resample(clip, rate, rate / draw.uniform(0.88, 1.12), quality="QQ")
        if draw.random() < options.room:
            clip = reverberate(clip, draw, rate)
        if draw.random() < options.noise:
            other = clips[(position + 1 + int(draw.integers(max(1, len(clips) - 1)))) % len(clips)]
            clip = add_noise(clip, other, float(draw.uniform(*options.snr)), draw, rate)
        if draw.random() < options.telephone:
            clip = band_limit(clip, 300.0, 3400.0, rate)
        if options.shift and draw.random() < options.shift:  # no draw without it: other runs stay as they were
            clip = clip[min(int(draw.integers(int(HOP * rate))), max(0, len(clip) - 1)) :]
        changed.append(np.asarray(clip, dtype=np.float32))
    return changed


def reverberate(clip: np.ndarray, draw: np.random.Generator, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Convolve with a random room response, exponentially decaying noise after the direct path.

    Length and energy of the clip, (samples,) at `rate` Hz, stay as they are.
    """
    rt60 = draw.uniform(0.1, 0.6)
    times = np.arange(int(rt60 * rate)) / rate
    tail = draw.standard_normal(len(times), dtype=np.float32) * np.exp(-6.9 * times / rt60)
    room = tail * draw.uniform(0.1, 0.5) / np.sqrt(np.square(tail).sum())
    room[0] = 1.0
    wet = fftconvolve(clip, room.astype(np.float32))[: len(clip)]
    return wet * (_level(clip) / max(_level(wet), 1e-9))


def add_noise(
    clip: np.ndarray, other: np.ndarray, snr: float, draw: np.random.Generator, rate: int = SAMPLE_RATE
) -> np.ndarray:
    """Add coloured noise, mains hum or `other`, another voice, at a signal-to-noise ratio of `snr` dB."""
    kind = draw.integers(4)
    if kind == 0 and len(other):
        noise = np.resize(other, len(clip))
        snr = max(snr, 12.0)  # a voice as loud as the speaker's would have to be transcribed too
    elif kind == 1:
        times = np.arange(len(clip)) / rate
        mains = 50.0 if draw.random() < 0.5 else 60.0
        noise = np.sum(
            [np.sin(2 * np.pi * mains * k * times + draw.uniform(0, 6.28)) / k for k in (1, 2, 3, 5)], axis=0
        )
    else:
        spectrum = np.fft.rfft(draw.standard_normal(len(clip), dtype=np.float32))
        slope = np.arange(1, len(spectrum) + 1) ** -draw.uniform(0.0, 1.0)  # from white to brown
        noise = np.fft.irfft(spectrum * slope, len(clip))
    gain = _level(clip) / max(_level(noise), 1e-9) * 10 ** (-snr / 20)
    return clip + noise * gain


def band_limit(clip: np.ndarray, low: float, high: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Remove what is outside `low` to `high` Hz from a clip, (samples,) at `rate` Hz."""
    spectrum = np.fft.rfft(clip)
    frequencies = np.fft.rfftfreq(len(clip), 1 / rate)
    spectrum[(frequencies < low) | (frequencies > high)] = 0
    return np.fft.irfft(spectrum, len(clip))


def mask_features(inputs: Mapping[str, Tensor], options: AugmentConfig, draw: np.random.Generator) -> dict[str, Tensor]:
    """SpecAugment (Park et al. 2019) on `input_features`, (batch, frames, mels); waveforms pass through.

    Masked cells become 0, the mean of features that are normalised per utterance.
    """
    masked = dict(inputs)
    features = masked.get("input_features")
    if features is None or not (options.time_masks or options.mel_masks):
        return masked
    features = features.clone()
    lengths = inputs["attention_mask"].sum(-1).tolist()
    mels = features.shape[-1]
    for row, length in zip(features, lengths, strict=True):
        for _ in range(options.time_masks):
            width = int(draw.integers(0, min(40, length // 10) + 1))
            start = int(draw.integers(0, max(1, length - width)))
            row[start : start + width] = 0
        for _ in range(options.mel_masks):
            width = int(draw.integers(0, mels * 27 // 80 + 1))
            start = int(draw.integers(0, mels - width + 1))
            row[:length, start : start + width] = 0
    masked["input_features"] = features
    return masked


def mask_windows(
    inputs: Mapping[str, Tensor], filled: Sequence[float], options: AugmentConfig, draw: np.random.Generator
) -> dict[str, Tensor]:
    """SpecAugment on the features of windows, (batch, mels, frames), within the share of each that holds audio.

    Args:
        filled: that share, 0 to 1, of every window.
    """
    features = inputs["input_features"].transpose(1, 2)
    ends = torch.tensor([round(share * features.shape[1]) for share in filled])
    mask = torch.arange(features.shape[1]) < ends.unsqueeze(1)
    masked = mask_features({"input_features": features, "attention_mask": mask}, options, draw)
    return {**inputs, "input_features": masked["input_features"].transpose(1, 2).contiguous()}


def _level(clip: np.ndarray) -> float:
    """Root mean square of a clip; 0 for an empty one."""
    return float(np.sqrt(np.mean(np.square(clip), dtype=np.float64))) if len(clip) else 0.0
