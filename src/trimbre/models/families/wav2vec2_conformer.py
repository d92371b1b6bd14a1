"""Wav2Vec2-Conformer, on raw audio: the same four branches as FastConformer, with relative or rotary attention."""

from transformers import Wav2Vec2ConformerForCTC

from trimbre.models.anatomy import Anatomy, Kind, Slice
from trimbre.models.families.blocks import Branch, groups_of

FEED_FORWARD = Kind(
    name="ffn",
    unit="feed-forward unit",
    slices=(
        Slice("intermediate_dense.weight", 0),
        Slice("intermediate_dense.bias", 0),
        Slice("output_dense.weight", 1),
    ),
    consumer="output_dense",
)

CONVOLUTION = Kind(
    name="conv",
    unit="convolution channel",
    slices=(
        Slice("pointwise_conv1.weight", 0, repeats=2),
        Slice("depthwise_conv.weight", 0),
        Slice("batch_norm.weight", 0),
        Slice("batch_norm.bias", 0),
        Slice("batch_norm.running_mean", 0),
        Slice("batch_norm.running_var", 0),
        Slice("pointwise_conv2.weight", 1),
    ),
    consumer="pointwise_conv2",
    channel_axis=1,
)


def attention(head_dim: int, relative: bool) -> Kind:
    """Attention with heads of `head_dim`, whose positions are `relative` terms or, if not, rotations of the input.

    `num_heads` stays: the forward only views its input by it, which is as wide as before.
    """
    projections = [f"linear_{name}.{part}" for name in "qkv" for part in ("weight", "bias")]
    position = (
        Slice("linear_pos.weight", 0, rows=head_dim),
        Slice("pos_bias_u", 0),
        Slice("pos_bias_v", 0),
    )
    return Kind(
        name="attention",
        unit="attention head",
        slices=(
            *(Slice(tensor, 0, rows=head_dim) for tensor in projections),
            *(position if relative else ()),
            Slice("linear_out.weight", 1, rows=head_dim),
        ),
        consumer="linear_out",
        rows=head_dim,
        outputs=2,
        products=lambda frames: head_dim * frames * (2 * frames + (2 * frames - 1 if relative else 0)),
    )


def describe(model: Wav2Vec2ConformerForCTC) -> Anatomy:
    """What can be cut from a `Wav2Vec2ConformerForCTC`, dense or pruned before."""
    relative = model.config.position_embeddings_type == "relative"
    branches = (
        Branch("ffn1", "ffn1_layer_norm", "self_attn_layer_norm", lambda module: FEED_FORWARD),
        Branch("self_attn", "self_attn_layer_norm", "conv_module", lambda m: attention(m.head_size, relative)),
        Branch("conv_module", None, "ffn2_layer_norm", lambda module: CONVOLUTION),
        Branch("ffn2", "ffn2_layer_norm", "final_layer_norm", lambda module: FEED_FORWARD),
    )
    path = "wav2vec2_conformer.encoder.layers"
    groups = groups_of(model.wav2vec2_conformer.encoder.layers, path, branches)
    return Anatomy(tuple(groups), {"blocks": f"{path}.", "encoder": "wav2vec2_conformer.", "model": ""})
