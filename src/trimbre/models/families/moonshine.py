"""Moonshine: an encoder of raw audio of any length and a decoder of text, both rotary."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from trimbre.models.anatomy import Anatomy, Group, Kind
from trimbre.models.families import kinds
from trimbre.models.families.blocks import Branch, channel_group, encoder_decoder
from trimbre.models.families.registry import Family
from trimbre.models.heads.seq2seq import Seq2Seq

STRIDE = 64 * 3 * 2
"""Samples from one frame to the next."""
PROJECTIONS = [f"{name}_proj.{part}" for name in "qkv" for part in ("weight", "bias")]
FEED_FORWARD = kinds.feed_forward("fc1", "fc2")
GATED = kinds.feed_forward("fc1", "fc2", name="gated-ffn", gated=True)


def attention(module: Any, *, name: str = "attention", source: str = "") -> Kind:
    """The kind of an attention module; `source` as in `kinds.attention`."""
    return kinds.attention(
        module.head_dim,
        PROJECTIONS,
        "o_proj",
        name=name,
        attributes={"config.num_attention_heads": 1, "config.num_key_value_heads": 1},
        source=source,
        padding=getattr(module, "head_dim_padding", 0),  # which the streaming encoder has not
    )


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `MoonshineForConditionalGeneration`, dense or pruned before.

    A norm over the channels of the first convolution follows it, so that these stay.
    """
    front = channel_group(model, "model.encoder.conv2-conv3", kinds.channels("channels", "conv2", "conv3"))
    return stacks(model, "layer_norm", front=(front,), front_scope=("model.encoder.conv", "model.encoder.groupnorm."))


def stacks(model: Any, end: str, *, front: tuple[Group, ...] = (), front_scope: tuple[str, ...] = ()) -> Anatomy:
    """What can be cut from a Moonshine, streaming or not.

    Args:
        end: the norm behind the encoder's blocks.
        front, front_scope: as in `encoder_decoder`.
    """
    encoder = (
        Branch("self_attn", "input_layernorm", "post_attention_layernorm", attention),
        Branch("mlp", "post_attention_layernorm", None, lambda module: FEED_FORWARD),
    )
    decoder, ends = decoder_branches(attention, GATED), (f"model.encoder.{end}", "model.decoder.norm")
    return encoder_decoder(model, encoder, decoder, ends=ends, front=front, front_scope=front_scope)


def decoder_branches(attention: Callable[..., Kind], feed_forward: Kind) -> tuple[Branch, ...]:
    """The branches of a decoder's block as transformers names them, here and in other families.

    Args:
        attention: as the one above, which is told `name` and `source`.
    """
    own, crossed = (
        partial(attention, name="decoder-attention"),
        partial(attention, name="cross-attention", source="k_proj"),
    )
    return (
        Branch("self_attn", "input_layernorm", "post_attention_layernorm", own),
        Branch("encoder_attn", "post_attention_layernorm", "final_layernorm", crossed),
        Branch("mlp", "final_layernorm", None, lambda module: feed_forward),
    )


def frames(model: Any, samples: Tensor) -> Tensor:
    """Frames that the model takes as valid, of so many samples: its mask is every 384th sample's."""
    return (samples + STRIDE - 1) // STRIDE


FAMILY = Family(
    name="moonshine",
    classes=("MoonshineForConditionalGeneration",),
    head=Seq2Seq(lengths=frames),
    anatomy=anatomy,
    runtimes=(),
)
