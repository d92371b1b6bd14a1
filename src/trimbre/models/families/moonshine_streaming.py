"""Moonshine's streaming form: causal convolutions on frames of 5 ms, attention in sliding windows, the same decoder."""

from typing import Any

from torch import Tensor

from trimbre.models.anatomy import Anatomy
from trimbre.models.families.moonshine import stacks
from trimbre.models.families.registry import Family
from trimbre.models.heads.seq2seq import Seq2Seq


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `MoonshineStreamingForConditionalGeneration`, dense or pruned before."""
    return stacks(model, "final_norm")


def frames(model: Any, samples: Tensor) -> Tensor:
    """Frames that the model takes as valid, of so many samples: those with any of the audio in their convolutions.

    In a padded batch these are some more than alone, so that padding changes the outputs.
    """
    count = samples // model.model.encoder.embedder.frame_len
    for convolution in ("conv1", "conv2"):
        layer = model.get_submodule(f"model.encoder.embedder.{convolution}")
        count = (count + layer.left_pad - 1) // layer.stride[0] + 1
    return count


FAMILY = Family(
    name="moonshine-streaming",
    classes=("MoonshineStreamingForConditionalGeneration",),
    head=Seq2Seq(lengths=frames),
    anatomy=anatomy,
    runtimes=(),
)
