"""Weighted least squares against numpy's own, solved in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from trimbre.pruning.least_squares import EVEN, STEEPEST, STRIP, Correction, frame_weights, gram


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("convolution", [True, False])
def test_a_projection_gets_the_weights_that_numpy_finds(bias, convolution):
    projection = nn.Conv1d(6, 4, 1, bias=bias) if convolution else nn.Linear(6, 4, bias=bias)
    inputs, wanted, counts = drawn(90, 6), drawn(90, 4, seed=1), drawn(90, seed=2).square()
    correction = Correction(projection, 0.0)
    with torch.no_grad():
        read = inputs.unsqueeze(2) if convolution else inputs
        missed = wanted - projection(read).flatten(1)
        for part in range(3):
            frames = slice(30 * part, 30 * part + 30)
            correction.add(inputs[frames], missed[frames], counts[frames])
        correction.apply()
    read = np.concatenate([inputs.double().numpy(), np.ones((90, 1))[:, : int(bias)]], 1)
    root = counts.sqrt().double().numpy()[:, None]
    solved = np.linalg.lstsq(root * read, root * wanted.double().numpy(), rcond=None)[0]
    assert projection.weight.detach().flatten(1).T.numpy() == pytest.approx(solved[:6], abs=1e-5)
    if bias:
        assert projection.bias.detach().numpy() == pytest.approx(solved[6], abs=1e-5)


def test_the_ridge_pulls_toward_the_weights_that_are_there():
    projection = nn.Linear(6, 4)
    before = projection.weight.detach().clone()
    inputs, wanted = drawn(90, 6), drawn(90, 4, seed=1)
    correction = Correction(projection, 1e6)
    with torch.no_grad():
        correction.add(inputs, wanted, None)
        correction.apply()
    assert torch.allclose(projection.weight, before, atol=1e-5)


def test_frames_count_by_the_energy_of_their_slopes():
    gradients = drawn(1000, 8)
    counts = frame_weights(gradients)
    energy = gradients.square().sum(1)
    assert torch.allclose(counts, EVEN + (1 - EVEN) * energy / energy.mean())
    assert float(counts.mean()) == pytest.approx(1)
    assert torch.equal(frame_weights(torch.zeros(3, 8)), torch.full((3,), EVEN))
    gradients[0] *= 1e4  # next to one that steep the rest is flat
    assert float(frame_weights(gradients)[0]) == EVEN + (1 - EVEN) * STEEPEST


@pytest.mark.parametrize("channels", [1, STRIP, 2 * STRIP + 3])
def test_sums_of_products_are_whole_on_both_sides_of_the_diagonal(channels):
    rows = drawn(20, channels).double()
    assert torch.allclose(gram(rows), rows.T @ rows, rtol=0, atol=1e-12)


def test_sums_of_products_are_as_exact_under_autocast():
    rows = drawn(200, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(gram(rows).double(), gram(rows.double()), rtol=1e-5, atol=1e-4)
