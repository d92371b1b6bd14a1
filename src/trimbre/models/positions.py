"""Which positions of a padded output are valid."""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.models.inputs import output_lengths


def valid_frames(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], output: Tensor, *, written: bool | None = None
) -> Tensor:
    """(batch, time) bool: which positions of an `output` (batch, time, ...) stand for audio or text, not for padding.

    Args:
        written: the positions are tokens of a text, and not frames of audio; None: what the model's logits are of.
    """
    if model.config.is_encoder_decoder if written is None else written:
        mask = inputs.get("decoder_attention_mask")
        lengths = None if mask is None else mask.sum(-1)
    else:
        lengths = output_lengths(model, inputs)
    frames = torch.arange(output.shape[1], device=output.device)
    if lengths is None:
        return torch.ones(output.shape[:2], dtype=torch.bool, device=output.device)
    return frames < lengths.to(output.device).unsqueeze(1)
