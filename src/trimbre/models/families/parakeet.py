"""Parakeet, transformers' FastConformer: two feed-forwards, relative attention and a convolution in every block."""

from collections.abc import Callable
from typing import Any

from trimbre.models.anatomy import Anatomy, Kind
from trimbre.models.families.blocks import Branch, groups_of
from trimbre.models.families.kinds import attention, conv_module, feed_forward
from trimbre.models.families.registry import Family
from trimbre.models.heads.ctc import CTC

FEED_FORWARD = feed_forward("linear1", "linear2")
CONVOLUTION = conv_module("norm", biases=True)
PROJECTIONS = [f"{name}_proj.{part}" for name in "qkv" for part in ("weight", "bias")]
FORMS = {
    "ParakeetEncoderSubsamplingConv2D": "subsampling",
    "ParakeetEncoderRelPositionalEncoding": "positions",
    "ParakeetEncoderAttention": "attention",
    "ParakeetEncoderConvolutionModule": "convolution",
    "ParakeetEncoderBlock": "block",
    "ParakeetEncoderCTCHead": "channels last",  # it transposes around its convolution itself
}


def self_attention(module: Any) -> Kind:
    """The kind of a FastConformer's attention."""
    return attention(
        module.head_dim,
        [*PROJECTIONS, "relative_k_proj.weight"],
        "o_proj",
        per_head=("bias_u", "bias_v"),
        attributes={"config.num_attention_heads": 1, "config.num_key_value_heads": 1},
        relative=True,
    )


def branches(
    self_attention: Callable[[Any], Kind] = self_attention, convolution: Kind = CONVOLUTION
) -> tuple[Branch, ...]:
    """The branches of a Conformer's block as transformers names them, here and in other families."""
    return (
        Branch("feed_forward1", "norm_feed_forward1", "norm_self_att", lambda module: FEED_FORWARD),
        Branch("self_attn", "norm_self_att", "norm_conv", self_attention),
        Branch("conv", "norm_conv", "norm_feed_forward2", lambda module: convolution),
        Branch("feed_forward2", "norm_feed_forward2", "norm_out", lambda module: FEED_FORWARD),
    )


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a Parakeet, dense or pruned before: the encoder, whatever its head."""
    groups = groups_of(model.encoder.layers, "encoder.layers", branches())
    return Anatomy(tuple(groups), {"blocks": "encoder.layers.", "encoder": "encoder.", "model": ""})


FAMILY = Family(
    name="parakeet",
    classes=("ParakeetForCTC",),
    head=CTC(lengths="_get_subsampling_output_length", masks_padding=True),
    anatomy=anatomy,
    runtimes=("onnx", "onnx-asr", "sherpa-onnx"),
    forms=FORMS,
)
