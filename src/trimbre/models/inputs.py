"""From audio to the padded inputs of a model's forward."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trimbre.errors import UserError
from trimbre.models.features import computes, log_mel

SHORTEST = 0.15
"""Seconds; shorter audio is padded with silence: convolutions need some input and normalisation some statistics."""


def rate_of(processor: Any) -> int:
    """Sampling rate of the audio that a model takes, in Hz, as its feature extractor states it.

    Raises:
        UserError: it states none.
    """
    rate = getattr(processor.feature_extractor, "sampling_rate", None)
    if not isinstance(rate, int | float) or not rate >= 1 or rate != int(rate):
        raise UserError(
            f"the feature extractor of the model states a sampling_rate of {rate!r}: write the rate of the audio that "
            "it was trained on, such as 16000, into its preprocessor_config.json"
        )
    return int(rate)


def window_of(processor: Any) -> int | None:
    """Seconds of the window that every input has (Whisper's 30 s); None where a model takes audio of any length."""
    return getattr(processor.feature_extractor, "chunk_length", None)


def features_of(clips: Sequence[np.ndarray], processor: Any) -> dict[str, Tensor]:
    """Turn clips, (samples,) each and mono at the model's rate, into the padded inputs of a model's forward."""
    extractor, rate = processor.feature_extractor, rate_of(processor)
    shortest = int(SHORTEST * rate)
    clips = [np.pad(clip, (0, max(0, shortest - len(clip)))) for clip in clips]
    padding = True if window_of(processor) is None else "max_length"
    # What processors say and not their feature extractors: LASR's masks, whole frames for Moonshine's streaming form.
    stated = getattr(processor, "audio_kwargs", {})
    asked = {name: stated[name] for name in ("pad_to_multiple_of", "return_attention_mask") if name in stated}
    # Extractors multiply with torch too: in bfloat16, where batches are drawn while a model runs under autocast.
    with torch.autocast("cpu", enabled=False):
        if computes(extractor):
            return log_mel(clips, extractor)
        made = extractor(list(clips), sampling_rate=rate, padding=padding, return_tensors="pt", **asked)
    found = {name: value for name, value in made.items() if isinstance(value, Tensor)}
    if len(next(iter(found.values()))) > len(clips):  # Cohere's gives the pieces of a long clip as rows
        raise UserError("the feature extractor of the model divides clips as long as these: give shorter ones")
    return found
