"""Wav2Vec2-Conformer, on raw audio: the same four branches as FastConformer, with relative or rotary attention."""

from collections.abc import Callable
from typing import Any

from trimbre.models.anatomy import Anatomy, Kind
from trimbre.models.families.blocks import Branch, groups_of
from trimbre.models.families.kinds import attention, conv_module, feed_forward
from trimbre.models.families.registry import Family
from trimbre.models.heads.ctc import CTC

FEED_FORWARD = feed_forward("intermediate_dense", "output_dense")
CONVOLUTION = conv_module("batch_norm", biases=False)
PROJECTIONS = [f"linear_{name}.{part}" for name in "qkv" for part in ("weight", "bias")]


def self_attention(module: Any) -> Kind:
    """The kind of an attention module, relative or rotary."""
    relative = module.position_embeddings_type == "relative"
    # `num_heads` stays: the forward only views its input by it, which is as wide as before.
    return attention(
        module.head_size,
        [*PROJECTIONS, *["linear_pos.weight"] * relative],
        "linear_out",
        per_head=("pos_bias_u", "pos_bias_v") if relative else (),
        relative=relative,
    )


def anatomy(
    model: Any, self_attention: Callable[[Any], Kind] = self_attention, convolution: Kind = CONVOLUTION
) -> Anatomy:
    """What can be cut from a `Wav2Vec2ConformerForCTC` or a Wav2Vec2-BERT, dense or pruned before."""
    branches = (
        Branch("ffn1", "ffn1_layer_norm", "self_attn_layer_norm", lambda module: FEED_FORWARD),
        Branch("self_attn", "self_attn_layer_norm", "conv_module", self_attention),
        Branch("conv_module", None, "ffn2_layer_norm", lambda module: convolution),
        Branch("ffn2", "ffn2_layer_norm", "final_layer_norm", lambda module: FEED_FORWARD),
    )
    home = model.base_model_prefix
    path = f"{home}.encoder.layers"
    groups = groups_of(model.base_model.encoder.layers, path, branches)
    return Anatomy(tuple(groups), {"blocks": f"{path}.", "encoder": f"{home}.", "model": ""})


FAMILY = Family(
    name="wav2vec2-conformer",
    classes=("Wav2Vec2ConformerForCTC",),
    head=CTC(),
    anatomy=anatomy,
    forms={
        "Wav2Vec2ConformerRelPositionalEmbedding": "relative positions",
        "Wav2Vec2ConformerRotaryPositionalEmbedding": "rotary positions",
    },
)
