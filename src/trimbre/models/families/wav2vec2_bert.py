"""Wav2Vec2-BERT, on log-mel features: a Conformer whose convolutions are causal and normalised over their channels."""

from dataclasses import replace
from typing import Any

from trimbre.models.anatomy import Anatomy, Kind
from trimbre.models.families.blocks import Branch, groups_of
from trimbre.models.families.kinds import attention, feed_forward, whole_conv_module
from trimbre.models.families.registry import Family
from trimbre.models.heads.ctc import CTC

FEED_FORWARD = feed_forward("intermediate_dense", "output_dense")
PROJECTIONS = [f"linear_{name}.{part}" for name in "qkv" for part in ("weight", "bias")]


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `Wav2Vec2BertForCTC`, dense or pruned before.

    A LayerNorm over all channels of a convolution module makes something else of each where some are missing: they stay
    or leave together.
    """
    positions = model.config.position_embeddings_type

    def self_attention(module: Any) -> Kind:
        head_dim, relative = module.head_size, positions == "relative"
        kind = attention(
            head_dim,
            [*PROJECTIONS, *["linear_pos.weight"] * relative],
            "linear_out",
            per_head=("pos_bias_u", "pos_bias_v") if relative else (),
            relative=relative,
        )
        if positions != "relative_key":
            return kind
        # Queries are also compared with an embedding of every distance.
        return replace(kind, products=lambda frames, keys: 3 * head_dim * frames * keys)

    branches = (
        Branch("ffn1", "ffn1_layer_norm", "self_attn_layer_norm", lambda module: FEED_FORWARD),
        Branch("self_attn", "self_attn_layer_norm", "conv_module", self_attention),
        Branch("conv_module", None, "ffn2_layer_norm", lambda module: whole_conv_module(model.config.hidden_size)),
        Branch("ffn2", "ffn2_layer_norm", "final_layer_norm", lambda module: FEED_FORWARD),
    )
    path = "wav2vec2_bert.encoder.layers"
    groups = groups_of(model.wav2vec2_bert.encoder.layers, path, branches)
    return Anatomy(tuple(groups), {"blocks": f"{path}.", "encoder": "wav2vec2_bert.", "model": ""})


FAMILY = Family(
    name="wav2vec2-bert",
    classes=("Wav2Vec2BertForCTC",),
    head=CTC(masks_padding=True),
    anatomy=anatomy,
    runtimes=(),
)
