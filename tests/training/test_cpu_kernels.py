"""Kernels that are quick on a CPU: the same results, and no size of a product that another batch would not have."""

import copy
from functools import partial
from itertools import repeat

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from trimbre.data.batches import Batch
from trimbre.models.recomputing import as_before
from trimbre.training.cpu_kernels import ROWS, CpuKernels
from trimbre.training.loop import accelerator_for, fit

PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}


class Products(TorchDispatchMode):
    """Notes the sizes of matrix products, forward and backward."""

    def __init__(self):
        super().__init__()
        self.sizes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in PRODUCTS:
            self.sizes.add(tuple(tuple(one.shape) for one in args[-2:]))
        return func(*args, **(kwargs or {}))


def learned(model, batch, mode, forward=None):
    """Output and gradients of a step."""
    model.zero_grad()
    with mode:
        output = (forward or model)(batch)
        output.square().sum().backward()
    return [output, *(p.grad.clone() for p in model.parameters())]


def layers(bias=True):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10, bias=bias), nn.GELU(), nn.Linear(10, 5)).double()


@pytest.mark.parametrize("shape", [(6,), (1, 6), (3, 41, 6), (2, ROWS, 6), (2, 3, 7, 6), (0, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_the_same(shape, bias):
    model, batch = layers(bias), torch.randn(*shape, dtype=torch.float64)
    plain, quick = (learned(model, batch, mode) for mode in (torch.enable_grad(), CpuKernels()))
    for one, other in zip(plain, quick, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


CONVOLUTIONS = {
    "frames": (nn.Conv1d(6, 10, 1), (3, 6, 41)),
    "frames without a bias": (nn.Conv1d(6, 10, 1, bias=False), (3, 6, 41)),
    "frames of one clip": (nn.Conv1d(6, 10, 1), (6, 41)),
    "points": (nn.Conv2d(6, 10, 1), (3, 6, 41, 5)),
    "frames in groups": (nn.Conv1d(6, 10, 1, groups=2), (3, 6, 41)),
    "every other frame": (nn.Conv1d(6, 10, 1, stride=2), (3, 6, 41)),
    "frames and silence": (nn.Conv1d(6, 10, 1, padding=1), (3, 6, 41)),
    "as long as before": (nn.Conv1d(6, 6, 3, padding="same", groups=6), (3, 6, 41)),
    "context": (nn.Conv1d(6, 10, 3, dilation=2), (3, 6, 41)),
    "front end": (nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6), (3, 6, 41, 5)),
}


@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions_and_their_gradients_are_the_same(layer, shape):
    model, signal = copy.deepcopy(layer).double(), torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    plain = [*learned(model, signal, torch.enable_grad()), signal.grad.clone()]
    signal.grad = None
    quick = [*learned(model, signal, CpuKernels()), signal.grad]
    for one, other in zip(plain, quick, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["front end", "context", "every other frame", "frames in groups"])
def test_autocast_leaves_strided_groups_alone_in_float32(kind):
    layer, shape = CONVOLUTIONS[kind]
    dtype = torch.float32 if kind == "front end" else torch.bfloat16
    with CpuKernels(), torch.autocast("cpu", dtype=torch.bfloat16):
        signal = torch.randn(*shape)
        assert layer(signal).dtype == dtype
        assert layer(signal.bfloat16()).dtype == dtype


def test_convolutions_of_frames_share_sizes():
    layer = nn.Conv1d(6, 10, 1)
    with Products() as products:
        for frames in (17, 41, 60):
            learned(layer, torch.randn(2, 6, frames), CpuKernels())
    assert {size for pair in products.sizes for one in pair for size in one} == {6, 10, ROWS}


def test_a_layer_of_which_no_unit_is_left_is_passed():
    bias = torch.randn(4)
    with CpuKernels():
        assert torch.equal(nn.functional.linear(torch.zeros(3, 0), torch.zeros(4, 0), bias), bias.expand(3, 4))


@pytest.mark.parametrize("mode", [CpuKernels, torch.enable_grad])
def test_what_a_backward_computes_again_is_computed_as_before(mode):
    model, batch = layers(), torch.randn(3, 41, 6, dtype=torch.float64)
    expected = learned(model, batch, mode())
    with Products() as products:
        found = learned(model, batch, mode(), partial(checkpoint, model, use_reentrant=False, context_fn=as_before))
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    sizes = {size for pair in products.sizes for one in pair for size in one}
    assert (ROWS in sizes, 3 * 41 in sizes) == (mode is CpuKernels, mode is not CpuKernels)


def test_batches_of_all_lengths_share_few_sizes():
    model = layers()
    met = []
    for length in range(1, 2 * ROWS, 17):
        with Products() as products:
            learned(model, torch.randn(1, length, 6, dtype=torch.float64), CpuKernels())
        met.append(frozenset(products.sizes))
    assert len(set(met)) == 2  # up to ROWS rows, and up to twice as many
    sizes = {size for of_batch in met for pair in of_batch for one in pair for size in one}
    assert sizes == {5, 6, 10, ROWS, 2 * ROWS}


def test_training_on_a_cpu_has_few_sizes():
    model, batch = layers().float(), Batch({"x": torch.randn(1, 41, 6)}, None, (), (), seconds=1.0)
    products = Products()

    def objective(batch, step):
        return {"loss": model(batch.inputs["x"]).square().mean()}

    with products:
        fit(
            stage="test",
            steps=1,
            batches=lambda start: repeat(batch),
            objective=objective,
            optimizers=[torch.optim.SGD(model.parameters(), lr=0.1)],
            modules={"model": model},
            accelerator=accelerator_for("fp32"),
            seed=0,
        )
    sizes = {size for pair in products.sizes for one in pair for size in one}
    assert ROWS in sizes
    assert 41 not in sizes
