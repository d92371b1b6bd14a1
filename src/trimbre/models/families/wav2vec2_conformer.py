"""Wav2Vec2-Conformer, on raw audio: the same four branches as FastConformer, with relative or rotary attention."""

from typing import Any

from trimbre.models.anatomy import Anatomy, Kind
from trimbre.models.families.blocks import Branch, groups_of
from trimbre.models.families.kinds import attention, conv_module, feed_forward
from trimbre.models.families.registry import Family
from trimbre.models.heads.ctc import CTC

FEED_FORWARD = feed_forward("intermediate_dense", "output_dense")
CONVOLUTION = conv_module("batch_norm", biases=False)
PROJECTIONS = [f"linear_{name}.{part}" for name in "qkv" for part in ("weight", "bias")]


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `Wav2Vec2ConformerForCTC`, dense or pruned before."""
    relative = model.config.position_embeddings_type == "relative"

    def self_attention(module: Any) -> Kind:
        # `num_heads` stays: the forward only views its input by it, which is as wide as before.
        return attention(
            module.head_size,
            [*PROJECTIONS, *["linear_pos.weight"] * relative],
            "linear_out",
            per_head=("pos_bias_u", "pos_bias_v") if relative else (),
            relative=relative,
        )

    branches = (
        Branch("ffn1", "ffn1_layer_norm", "self_attn_layer_norm", lambda module: FEED_FORWARD),
        Branch("self_attn", "self_attn_layer_norm", "conv_module", self_attention),
        Branch("conv_module", None, "ffn2_layer_norm", lambda module: CONVOLUTION),
        Branch("ffn2", "ffn2_layer_norm", "final_layer_norm", lambda module: FEED_FORWARD),
    )
    path = "wav2vec2_conformer.encoder.layers"
    groups = groups_of(model.wav2vec2_conformer.encoder.layers, path, branches)
    return Anatomy(tuple(groups), {"blocks": f"{path}.", "encoder": "wav2vec2_conformer.", "model": ""})


FAMILY = Family(
    name="wav2vec2-conformer",
    classes=("Wav2Vec2ConformerForCTC",),
    head=CTC(lengths="_get_feat_extract_output_lengths"),
    anatomy=anatomy,
    forms={
        "Wav2Vec2ConformerRelPositionalEmbedding": "relative positions",
        "Wav2Vec2ConformerRotaryPositionalEmbedding": "rotary positions",
    },
)
