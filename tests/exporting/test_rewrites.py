"""The quicker forms beside transformers' own modules, in float64 and with weights that hide nothing."""

import copy

import pytest
import torch
from helpers.families import FAMILIES, edge_plans, shaken

from trimbre.exporting.rewrites import FORMS, rewrite_operators
from trimbre.models.families.registry import anatomy_of
from trimbre.models.positions import valid_frames
from trimbre.pruning.surgery import cut


@pytest.fixture
def parakeet():
    torch.manual_seed(0)
    model = shaken(FAMILIES["parakeet"].build()).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "self_attn" in name:
                parameter.mul_(8)  # sharp attention, in which every bias shows
    return model


class Exactly(torch.nn.Module):
    """transformers' encoding of positions, which rounds to single floats, without that."""

    def __init__(self, encoding):
        super().__init__()
        self.form = FORMS["positions"](encoding)

    def forward(self, hidden):
        halves = self.form(hidden).chunk(2, -1)
        return torch.stack(halves, -1).flatten(2)[:, :-1].expand(len(hidden), -1, -1)


@pytest.mark.parametrize("frames", [1, 2, 37])
def test_attention(parakeet, frames):
    attention = parakeet.encoder.layers[1].self_attn
    hidden = torch.randn(3, frames, 32, dtype=torch.float64)
    exactly = Exactly(parakeet.encoder.encode_positions)
    halves, positions = exactly.form(hidden), exactly(hidden)
    lengths = torch.tensor([frames, max(frames // 2, 1), max(frames - 3, 1)])
    valid = torch.arange(frames) < lengths[:, None]
    both, keys = (valid[:, None, :] & valid[:, :, None])[:, None], valid[:, None, None].expand(-1, 1, frames, -1)
    form = FORMS["attention"](copy.deepcopy(attention))
    # What padding asks for is not masked: there it is as if only keys were.
    for theirs, ours, compared in ((None, None, valid | True), (both, both, valid), (keys, both, valid | True)):
        with torch.no_grad():
            expected, _ = attention(hidden, positions, theirs)
            found, _ = form(hidden, halves, ours)
        torch.testing.assert_close(found[compared], expected[compared], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 400])
def test_positions_at_their_distances_are_sines_and_cosines(parakeet, frames):
    encoding = parakeet.encoder.encode_positions
    (found,) = FORMS["positions"](encoding)(torch.zeros(1, frames, 32))
    angles = torch.arange(frames - 1, -frames - 1, -1)[:, None] * encoding.inv_freq
    torch.testing.assert_close(found, torch.cat([angles.sin(), angles.cos()], 1), rtol=0, atol=1e-12)
    (theirs,) = encoding(torch.zeros(1, frames, 32))
    torch.testing.assert_close(Exactly(encoding)(torch.zeros(1, frames, 32))[0].float(), theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 37])
def test_convolution(parakeet, frames):
    convolution = parakeet.encoder.layers[1].conv
    hidden = torch.randn(3, frames, 32, dtype=torch.float64)
    valid = torch.arange(frames) < torch.tensor([[frames], [max(frames // 2, 1)], [max(frames - 3, 1)]])
    mask = (valid[:, None, :] & valid[:, :, None])[:, None]
    form = FORMS["convolution"](copy.deepcopy(convolution))
    for given in (None, mask):
        with torch.no_grad():
            torch.testing.assert_close(form(hidden, given), convolution(hidden, given), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_front_end(parakeet, kernel):
    config = copy.deepcopy(parakeet.config.encoder_config)
    config.subsampling_conv_kernel_size = kernel
    front = type(parakeet.encoder.subsampling)(config).double()
    mels = torch.randn(6, 101, 80, dtype=torch.float64)
    mask = torch.arange(101) < torch.tensor([[101], [53], [50], [9], [7], [1]])
    form = FORMS["subsampling"](front)
    for given in (None, mask):
        with torch.no_grad():
            torch.testing.assert_close(form(mels, given), front(mels, given), rtol=1e-12, atol=1e-12)


def test_whole_models_that_were_cut(parakeet):
    mels = torch.randn(2, 90, 80, dtype=torch.float64)
    mask = torch.arange(90) < torch.tensor([[90], [60]])
    for plan in edge_plans(anatomy_of(parakeet)).values():
        small = cut(parakeet, plan).double().eval()
        quick = copy.deepcopy(small)
        rewrite_operators(quick)
        small.encoder.encode_positions = Exactly(small.encoder.encode_positions)
        with torch.no_grad():
            found, expected = (one(input_features=mels, attention_mask=mask).logits for one in (quick, small))
        valid = valid_frames(small, {"input_features": mels, "attention_mask": mask}, expected)
        assert not valid.all()
        torch.testing.assert_close(found[valid], expected[valid], rtol=1e-8, atol=1e-8)
