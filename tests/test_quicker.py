"""The quicker forms beside transformers' own modules, in float64 and with weights that hide nothing."""

import copy

import pytest
import torch
from conftest import FAMILIES, edge_plans, shaken

from trimbre.anatomy import anatomy_of
from trimbre.exporting.quicker import FORMS, quicken
from trimbre.surgery import cut


@pytest.fixture
def parakeet():
    torch.manual_seed(0)
    model = shaken(FAMILIES["parakeet"].build()).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "self_attn" in name:
                parameter.mul_(8)  # sharp attention, in which every bias shows
    return model


@pytest.mark.parametrize("frames", [1, 2, 37])
def test_attention(parakeet, frames):
    attention = parakeet.encoder.layers[1].self_attn
    hidden = torch.randn(3, frames, 32, dtype=torch.float64)
    positions = parakeet.encoder.encode_positions(hidden)
    lengths = torch.tensor([frames, max(frames // 2, 1), max(frames - 3, 1)])
    valid = torch.arange(frames) < lengths[:, None]
    mask = (valid[:, None, :] & valid[:, :, None])[:, None]
    form = FORMS["ParakeetEncoderAttention"](copy.deepcopy(attention))
    for given in (None, mask):
        with torch.no_grad():
            expected, _ = attention(hidden, positions, given)
            found, _ = form(hidden, positions, given)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_front_end(parakeet):
    front = parakeet.encoder.subsampling
    mels = torch.randn(3, 101, 80, dtype=torch.float64)
    mask = torch.arange(101) < torch.tensor([[101], [50], [7]])
    form = FORMS["ParakeetEncoderSubsamplingConv2D"](front)
    for given in (None, mask):
        with torch.no_grad():
            torch.testing.assert_close(form(mels, given), front(mels, given), rtol=1e-12, atol=1e-12)


def test_whole_models_that_were_cut(parakeet):
    mels = torch.randn(2, 90, 80, dtype=torch.float64)
    mask = torch.arange(90) < torch.tensor([[90], [60]])
    for plan in edge_plans(anatomy_of(parakeet)).values():
        small = cut(parakeet, plan).double().eval()
        quick = copy.deepcopy(small)
        quicken(quick)
        with torch.no_grad():
            found, expected = (one(input_features=mels, attention_mask=mask).logits[:1] for one in (quick, small))
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
