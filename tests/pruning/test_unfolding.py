"""What a convolution reads, against the convolution itself."""

import pytest
import torch
from torch import nn

from trimbre.models.anatomy import Group
from trimbre.models.families.kinds import channels, feed_forward
from trimbre.pruning.unfolding import put_out_by, read_by

BETWEEN = Group("front.0-1", channels("channels-0", "0", "1"), None, 6)


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 3}, {"padding": 2}, {"dilation": 2, "stride": 2, "padding": 1}, {"kernel_size": 1, "stride": 2}],
)
def test_outputs_are_what_is_read_times_the_weights(options):
    torch.manual_seed(0)
    convolution = nn.Conv1d(6, 4, **({"kernel_size": 5} | options))
    hidden = torch.randn(2, 6, 40)
    read = read_by(convolution, hidden, BETWEEN)
    found = read @ convolution.weight.flatten(1).T + convolution.bias
    assert torch.allclose(found, put_out_by(BETWEEN, convolution(hidden)), atol=1e-6)


def test_a_linear_layer_reads_its_input():
    group, hidden = Group("ffn", feed_forward("up", "down"), 0, 6), torch.randn(2, 40, 6)
    assert read_by(nn.Linear(6, 4), hidden, group) is hidden
    assert put_out_by(group, hidden) is hidden
