"""What a projection reads at each position of its output: of a convolution, all channels under its kernel."""

from typing import Any

from torch import Tensor, nn

from trimbre.models.anatomy import Group


def read_by(projection: Any, hidden: Tensor, group: Group) -> Tensor:
    """(batch, time, columns): the inputs of every output position, in the order of the projection's flattened weight.

    Args:
        projection: the consumer of `group`: a linear layer, or a convolution over time in one group of channels.
        hidden: its input, (batch, channels, time) of a convolution and (batch, time, channels) else.
    """
    if group.kind.channel_axis != 1:
        return hidden
    if not isinstance(projection, nn.Conv1d):
        return hidden.transpose(1, 2)
    (kernel,), (stride,), (dilation,) = projection.kernel_size, projection.stride, projection.dilation
    assert isinstance(projection.padding, tuple)
    padded = nn.functional.pad(hidden, (projection.padding[0], projection.padding[0]))
    windows = padded.unfold(2, dilation * (kernel - 1) + 1, stride)[..., ::dilation]  # (batch, channels, time, kernel)
    return windows.transpose(1, 2).flatten(2)


def put_out_by(group: Group, hidden: Tensor) -> Tensor:
    """(batch, time, dim): the output of a group's consumer, time before channels."""
    return hidden.transpose(1, 2) if group.kind.channel_axis == 1 else hidden
