"""The kinds that families share: feed-forward, attention, the Conformer's convolution, and channels of a front end."""

from collections.abc import Mapping, Sequence

from trimbre.models.anatomy import Kind, Slice


def feed_forward(first: str, second: str, *, name: str = "ffn", in_block: bool = False, gated: bool = False) -> Kind:
    """Two linear layers by name, the hidden units between them.

    Args:
        in_block: they lie in the block itself and not in a module of their own.
        gated: the first puts out two runs of units, of which one, after the activation, multiplies the other.
    """
    produced = [Slice(f"{first}.{part}", 0, repeats=1 + gated) for part in ("weight", "bias")]
    return Kind(
        name=name,
        unit="feed-forward unit",
        slices=(*produced, Slice(f"{second}.weight", 1)),
        consumer=second,
        parts=(first, second) if in_block else (),
    )


def attention(
    head_dim: int,
    projections: Sequence[str],
    output: str,
    *,
    name: str = "attention",
    per_head: Sequence[str] = (),
    attributes: Mapping[str, int] | None = None,
    relative: bool = False,
    source: str = "",
    padding: int = 0,
) -> Kind:
    """Multi-head attention with heads of `head_dim`.

    Args:
        projections: tensors with `head_dim` rows for each head: weights and biases of queries, keys and values.
        output: the projection that reads the heads.
        per_head: tensors with one row for each head, such as the biases of relative attention.
        attributes: as in `Kind`.
        relative: keys are also compared with 2 T - 1 relative positions.
        source: the projection of the keys, for cross-attention.
        padding: zeros that the model appends to every head in the products.
    """
    return Kind(
        name=name,
        unit="attention head",
        slices=(
            *(Slice(tensor, 0, rows=head_dim) for tensor in projections),
            *(Slice(tensor, 0) for tensor in per_head),
            Slice(f"{output}.weight", 1, rows=head_dim),
        ),
        consumer=output,
        rows=head_dim,
        attributes=attributes or {},
        outputs=2,
        source=source,
        # Scores against keys, and relative positions where there are any, and the weighted sum of values.
        products=lambda frames, keys: (head_dim + padding) * frames * (2 * keys + (2 * frames - 1 if relative else 0)),
    )


def conv_module(
    norm: str, *, biases: bool, first: str = "pointwise_conv1", last: str = "pointwise_conv2", channel_axis: int = 1
) -> Kind:
    """The Conformer's convolution module: pointwise with a gated linear unit, depthwise, norm, activation, pointwise.

    The gates lie behind norm and activation: an earlier one would be undone by the norm's bias.

    Args:
        biases: the first two convolutions have biases.
        first, last: the pointwise ones.
        channel_axis: -1 where those are linear layers.
    """
    expansion = [Slice(f"{first}.{part}", 0, repeats=2) for part in ("weight", *["bias"] * biases)]
    depthwise = [Slice(f"depthwise_conv.{part}", 0) for part in ("weight", *["bias"] * biases)]
    normalised = [Slice(f"{norm}.{part}", 0) for part in ("weight", "bias", "running_mean", "running_var")]
    return Kind(
        name="conv",
        unit="convolution channel",
        slices=(*expansion, *depthwise, *normalised, Slice(f"{last}.weight", 1)),
        consumer=last,
        channel_axis=channel_axis,
    )


def whole_conv_module(channels: int) -> Kind:
    """A convolution module with one unit, all of it: its norm is over all channels, which stay or leave together."""
    return Kind(
        name="conv",
        unit="convolution module",
        slices=(Slice("pointwise_conv2.weight", 1, rows=channels),),
        consumer="pointwise_conv2",
        channel_axis=1,
        rows=channels,
    )


def channels(name: str, producer: str, consumer: str, *, between: Sequence[str] = (), rows: int = 1) -> Kind:
    """Channels between two convolutions of a front end, or between its last one and a linear layer.

    Args:
        name: of the kind; each pair of convolutions is a kind of its own.
        producer: the convolution whose output they are, relative to the modules' common parent.
        consumer: what reads them.
        between: modules with a weight and a bias for each channel: norms of single channels, depthwise convolutions. A
            norm over several channels is not the same without some of them.
        rows: entries of the consumer's input that one channel owns.
    """
    owned = [f"{module}.{part}" for module in (producer, *between) for part in ("weight", "bias")]
    return Kind(
        name=name,
        unit="front-end channel",
        slices=(*(Slice(tensor, 0) for tensor in owned), Slice(f"{consumer}.weight", 1, rows=rows)),
        consumer=consumer,
        channel_axis=1 if rows == 1 else -1,
        rows=rows,
        parts=(producer, consumer),
    )
