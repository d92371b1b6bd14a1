"""From audio to the padded inputs of a model's forward, and the arithmetic of their lengths."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trimbre.models.features import computes, log_mel

SAMPLE_RATE = 16_000
"""What recognisers hear, in samples per second."""


SHORTEST = SAMPLE_RATE // 10
"""Samples; less is filled up with silence, for convolutions need some to stand on and normalisation some to count."""


def window_of(processor: Any) -> int | None:
    """Seconds that a model hears at once, neither more nor less; None where it hears any length."""
    return getattr(processor.feature_extractor, "chunk_length", None)


def features_of(clips: Sequence[np.ndarray], processor: Any) -> dict[str, Tensor]:
    """Turn clips, (samples,) each and mono at 16 kHz, into the padded inputs of a model's forward."""
    extractor = processor.feature_extractor
    clips = [np.pad(clip, (0, max(0, SHORTEST - len(clip)))) for clip in clips]
    padding = True if window_of(processor) is None else "max_length"
    # Extractors multiply with torch too: in bfloat16, where batches are drawn while a model hears them under autocast.
    with torch.autocast("cpu", enabled=False):
        if computes(extractor):
            return log_mel(clips, extractor)
        return dict(extractor(list(clips), sampling_rate=SAMPLE_RATE, padding=padding, return_tensors="pt"))


def with_text(model: Any, inputs: Mapping[str, Tensor], tokens: int) -> dict[str, Tensor]:
    """What a forward takes: the inputs and, for a model with a decoder, so many tokens of made-up text beside each."""
    if not model.config.is_encoder_decoder:
        return dict(inputs)
    batch = len(next(iter(inputs.values())))
    text = torch.arange(batch * tokens).reshape(batch, tokens) * 7 % model.config.vocab_size
    return {**inputs, "decoder_input_ids": text.to(model.device)}


def output_lengths(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Count the valid output frames of each utterance of a padded batch.

    Args:
        model: a CTC model of transformers; only its length arithmetic is asked.
        inputs: what its forward takes; `attention_mask` (batch, samples or feature frames) is what counts.

    Returns:
        (batch,) integers, in output frames; None where the batch carries no mask, for then the model itself
        takes every frame as valid (wav2vec 2.0 with group-normalised features).
    """
    mask = inputs.get("attention_mask")
    if mask is None:
        return None
    valid = mask.sum(-1)
    for name in ("_get_subsampling_output_length", "_get_feat_extract_output_lengths"):
        if hasattr(model, name):
            return getattr(model, name)(valid).long()
    return valid.long()
