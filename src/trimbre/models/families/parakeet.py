"""Parakeet, transformers' FastConformer: two feed-forwards, relative attention and a convolution in every block."""

from transformers import ParakeetForCTC

from trimbre.models.anatomy import Anatomy, Kind, Slice
from trimbre.models.families.blocks import Branch, groups_of

FEED_FORWARD = Kind(
    name="ffn",
    unit="feed-forward unit",
    slices=(Slice("linear1.weight", 0), Slice("linear1.bias", 0), Slice("linear2.weight", 1)),
    consumer="linear2",
)

# The gate sits behind norm and activation: an earlier one would be revived by the norm's bias.
CONVOLUTION = Kind(
    name="conv",
    unit="convolution channel",
    slices=(
        Slice("pointwise_conv1.weight", 0, repeats=2),
        Slice("pointwise_conv1.bias", 0, repeats=2),
        Slice("depthwise_conv.weight", 0),
        Slice("depthwise_conv.bias", 0),
        Slice("norm.weight", 0),
        Slice("norm.bias", 0),
        Slice("norm.running_mean", 0),
        Slice("norm.running_var", 0),
        Slice("pointwise_conv2.weight", 1),
    ),
    consumer="pointwise_conv2",
    channel_axis=1,
)


def attention(head_dim: int) -> Kind:
    """Relative-position attention with heads of `head_dim`."""
    projections = [f"{name}_proj.{part}" for name in "qkv" for part in ("weight", "bias")]
    return Kind(
        name="attention",
        unit="attention head",
        slices=(
            *(Slice(tensor, 0, rows=head_dim) for tensor in projections),
            Slice("relative_k_proj.weight", 0, rows=head_dim),
            Slice("bias_u", 0),
            Slice("bias_v", 0),
            Slice("o_proj.weight", 1, rows=head_dim),
        ),
        consumer="o_proj",
        rows=head_dim,
        attributes={"config.num_attention_heads": 1, "config.num_key_value_heads": 1},
        outputs=2,
        # scores against keys and against the 2 T - 1 relative positions, and the weighted sum of values
        products=lambda frames: head_dim * frames * (2 * frames + 2 * frames - 1),
    )


def describe(model: ParakeetForCTC) -> Anatomy:
    """What can be cut from a `ParakeetForCTC`, dense or pruned before."""
    branches = (
        Branch("feed_forward1", "norm_feed_forward1", "norm_self_att", lambda module: FEED_FORWARD),
        Branch("self_attn", "norm_self_att", "norm_conv", lambda module: attention(module.head_dim)),
        Branch("conv", "norm_conv", "norm_feed_forward2", lambda module: CONVOLUTION),
        Branch("feed_forward2", "norm_feed_forward2", "norm_out", lambda module: FEED_FORWARD),
    )
    groups = groups_of(model.encoder.layers, "encoder.layers", branches)
    return Anatomy(tuple(groups), {"blocks": "encoder.layers.", "encoder": "encoder.", "model": ""})
