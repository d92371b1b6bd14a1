"""Which positions of a padded sequence inside a model are valid."""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimbre.models.anatomy import Positions
from trimbre.models.families.registry import head_of


def valid_frames(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], output: Tensor, *, positions: Positions | None = None
) -> Tensor:
    """(batch, time) bool: which positions of an `output` (batch, time, ...) stand for audio or text, not for padding.

    Args:
        positions: what they are positions of; None: what the model's logits are of.
    """
    head = head_of(model)
    what = positions or head.positions
    lengths = None
    if what == "frames":
        lengths = head.output_lengths(model, inputs)
    elif (mask := inputs.get("decoder_attention_mask" if what == "tokens" else "attention_mask")) is not None:
        lengths = mask.sum(-1)
        if what == "inputs":  # a front end has shortened all of them alike
            lengths = (lengths * output.shape[1] / mask.shape[1]).ceil().long()
    frames = torch.arange(output.shape[1], device=output.device)
    if lengths is None:
        return torch.ones(output.shape[:2], dtype=torch.bool, device=output.device)
    return frames < lengths.to(output.device).unsqueeze(1)
