"""Granite Speech 5: a Conformer with attention within blocks of frames, whose first layers halve the frame rate."""

from dataclasses import replace
from typing import Any

from trimbre.models.anatomy import Anatomy, Group, Kind
from trimbre.models.families import kinds
from trimbre.models.families.blocks import groups_of
from trimbre.models.families.parakeet import PROJECTIONS, branches
from trimbre.models.families.registry import Family
from trimbre.models.heads.ctc import CTC

CONVOLUTION = kinds.conv_module("norm", biases=True, first="pointwise_lin1", last="pointwise_lin2", channel_axis=-1)


def attention(module: Any) -> Kind:
    """The kind of an attention module: frames are compared within blocks, by content and by distance."""
    width, size = module.head_dim, module.context_size
    kind = kinds.attention(width, PROJECTIONS, "o_proj", attributes={"config.num_attention_heads": 1})
    return replace(kind, source="q_proj", products=lambda frames, padded: 3 * width * size * padded)


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `GraniteSpeech5ForCTC`, dense or pruned before.

    A convolution that halves the frame rate keeps a channel, for the block adds its output to half of the frames; a
    module of attention keeps a head or leaves, with its embedding of distances. The residual stream is one only between
    the last halving and the middle, where the posteriors of a head are added to it.
    """
    halving, middle = model.config.encoder_config.subsample_layers, len(model.encoder.layers) // 2

    def as_it_may(group: Group) -> Group:
        layer, name = group.layer or 0, group.path.rpartition(".")[2]
        if layer <= max(halving, default=-1):
            group = replace(group, block="", positions="inputs")
        if layer in halving and name == "conv":
            return replace(group, skippable=False, least=1)
        if layer >= middle:
            group = replace(group, block="")
        return replace(group, least=1) if name == "self_attn" else group

    groups = groups_of(model.encoder.layers, "encoder.layers", branches(attention, CONVOLUTION))
    scopes = {"blocks": "encoder.layers.", "encoder": "encoder.", "model": ""}
    return Anatomy(tuple(map(as_it_may, groups)), scopes)


FAMILY = Family(
    name="granite-speech5",
    classes=("GraniteSpeech5ForCTC",),
    head=CTC(lengths="_get_subsampling_output_length", masks_padding=True),
    anatomy=anatomy,
    runtimes=(),
)
