"""Products of few sizes: the same results, and no size that another batch would not have."""

from itertools import repeat

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from trimbre.data.batches import Batch
from trimbre.loop import accelerator_for, fit
from trimbre.steady import ROWS, SteadyRows

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


def learned(model, batch, mode):
    """Output and gradients of a step."""
    model.zero_grad()
    with mode:
        output = model(batch)
        output.square().sum().backward()
    return [output, *(p.grad.clone() for p in model.parameters())]


def layers(bias=True):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10, bias=bias), nn.GELU(), nn.Linear(10, 5)).double()


@pytest.mark.parametrize("shape", [(6,), (1, 6), (3, 41, 6), (2, ROWS, 6), (2, 3, 7, 6), (0, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_the_same(shape, bias):
    model, batch = layers(bias), torch.randn(*shape, dtype=torch.float64)
    plain, steady = (learned(model, batch, mode) for mode in (torch.enable_grad(), SteadyRows()))
    for one, other in zip(plain, steady, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_layer_of_which_no_unit_is_left_is_passed():
    bias = torch.randn(4)
    with SteadyRows():
        assert torch.equal(nn.functional.linear(torch.zeros(3, 0), torch.zeros(4, 0), bias), bias.expand(3, 4))


def test_it_is_known_whether_one_holds():
    with SteadyRows(), SteadyRows():
        assert SteadyRows.holds == 2
    with pytest.raises(ZeroDivisionError), SteadyRows():
        torch.ones(1) / (1 // 0)
    assert SteadyRows.holds == 0


def test_batches_of_all_lengths_share_few_sizes():
    model = layers()
    met = []
    for length in range(1, 2 * ROWS, 17):
        with Products() as products:
            learned(model, torch.randn(1, length, 6, dtype=torch.float64), SteadyRows())
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
