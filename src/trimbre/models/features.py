"""Log-mel features as transformers' Parakeet extractor computes them, in less than half of its time.

Features are what pruning doesn't touch: the smaller a model, the larger their share of the time. The extractor spends
most of its own on the magnitudes of a complex spectrum, a root and a square that undo each other, and on turning the
result round; here frames lie along rows from the start, and power is the sum of two squares.
"""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from transformers.models.parakeet.feature_extraction_parakeet import (
    EPSILON,
    LOG_ZERO_GUARD_VALUE,
    ParakeetFeatureExtractor,
)

AT_ONCE = 256
"""Frames whose spectra are computed together: so few stay in the cache, and ask for no fresh pages of memory."""

BANDS = 20
"""Mel bands whose energies are computed together."""
_KNOWN: WeakKeyDictionary[Any, tuple[Tensor, list[tuple[slice, Tensor]]]] = WeakKeyDictionary()
"""What doesn't change from clip to clip."""


def computes(extractor: Any) -> bool:
    """Whether `log_mel` gives what an extractor does: one of the class that it was written after, as it's made."""
    return type(extractor) is ParakeetFeatureExtractor and (extractor.padding_side, extractor.padding_value) == (
        "right",
        0,
    )


def log_mel(clips: Sequence[np.ndarray], extractor: Any) -> dict[str, Tensor]:
    """`input_features` (batch, frames, mels) and `attention_mask` (batch, frames) of clips, (samples,) each.

    Args:
        extractor: a `ParakeetFeatureExtractor`; its sizes, filters and window are used.
    """
    n_fft, hop = extractor.n_fft, extractor.hop_length
    window, bands = _prepared(extractor)
    lengths = torch.tensor([len(clip) for clip in clips])
    margin = n_fft // 2
    padded = torch.zeros(len(clips), int(lengths.max()) + 2 * margin)
    for row, audio in zip(padded, clips, strict=True):
        samples = torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))
        clip = row[margin : margin + len(samples)]
        clip.copy_(samples)
        if extractor.preemphasis is not None:
            clip[1:] -= extractor.preemphasis * samples[:-1]
    parts = padded.unfold(1, n_fft, hop).split(max(1, AT_ONCE // len(clips)), 1)
    mels = torch.cat([_mels(part * window, bands) for part in parts], 1)
    frames = lengths // hop
    mask = torch.arange(mels.shape[1]) < frames.unsqueeze(1)
    return {"input_features": _normalised(mels, frames, mask), "attention_mask": mask}


def _mels(frames: Tensor, bands: Sequence[tuple[slice, Tensor]]) -> Tensor:
    """Logarithms of the energies in mel bands (batch, frames, mels) of windowed frames (batch, frames, samples)."""
    spectrum = torch.fft.rfft(frames)
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    energies = torch.cat([power[..., bins] @ filters for bins, filters in bands], -1)
    return energies.add_(LOG_ZERO_GUARD_VALUE).log_()


def _prepared(extractor: Any) -> tuple[Tensor, list[tuple[slice, Tensor]]]:
    """The window (samples,) and, for some mel bands at a time, the bins that they cover and their filters of these.

    Filters are narrow: most of the products of all bins with all filters would be with zeros.
    """
    if extractor not in _KNOWN:
        n_fft, width = extractor.n_fft, extractor.win_length
        left = (n_fft - width) // 2
        window = torch.nn.functional.pad(torch.hann_window(width, periodic=False), (left, n_fft - width - left))
        bands = []
        for filters in extractor.mel_filters.split(BANDS):
            covered = filters.ne(0).any(0).nonzero().flatten().tolist() or [0]
            bins = slice(covered[0], covered[-1] + 1)
            bands.append((bins, filters[:, bins].T.contiguous()))
        _KNOWN[extractor] = (window, bands)
    return _KNOWN[extractor]


def _normalised(mels: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and deviation 1 in every band over an utterance's own frames, and 0 beyond them."""
    shown, count = mask.unsqueeze(2), frames.reshape(-1, 1, 1)
    mels = mels * shown
    away = (mels - mels.sum(1, keepdim=True) / count) * shown
    deviation = (away.square().sum(1, keepdim=True) / (count - 1)).sqrt()
    return away / (deviation + EPSILON)
