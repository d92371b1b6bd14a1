"""From audio to the padded inputs of a model's forward."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trimbre.models.features import computes, log_mel

SAMPLE_RATE = 16_000
"""Of the audio that models take, in Hz."""


SHORTEST = SAMPLE_RATE // 10
"""Samples; shorter audio is padded with silence: convolutions need some input and normalisation some statistics."""


def window_of(processor: Any) -> int | None:
    """Seconds of the window that every input has (Whisper's 30 s); None where a model takes audio of any length."""
    return getattr(processor.feature_extractor, "chunk_length", None)


def features_of(clips: Sequence[np.ndarray], processor: Any) -> dict[str, Tensor]:
    """Turn clips, (samples,) each and mono at 16 kHz, into the padded inputs of a model's forward."""
    extractor = processor.feature_extractor
    clips = [np.pad(clip, (0, max(0, SHORTEST - len(clip)))) for clip in clips]
    padding = True if window_of(processor) is None else "max_length"
    # Extractors multiply with torch too: in bfloat16, where batches are drawn while a model runs under autocast.
    with torch.autocast("cpu", enabled=False):
        if computes(extractor):
            return log_mel(clips, extractor)
        return dict(extractor(list(clips), sampling_rate=SAMPLE_RATE, padding=padding, return_tensors="pt"))
