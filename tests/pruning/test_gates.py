"""Hard-concrete gates against their closed forms."""

import pytest
import torch

from trimbre.models.families.registry import head_of
from trimbre.pruning.gates import BETA, GAMMA, UNHARMED, ZETA, Gates, deterministic, gated, keep_probability, sample
from trimbre.training.low_memory import recomputed


def test_keep_probability_is_the_share_of_samples_that_are_not_zero():
    torch.manual_seed(0)
    log_alpha = torch.linspace(-4, 4, 9)
    draws = sample(log_alpha.expand(40_000, -1))
    share = (draws > 0).double().mean(0)
    expected = keep_probability(log_alpha.double())
    spread = (expected * (1 - expected) / 40_000).sqrt()
    assert ((share - expected).abs() < 4.5 * spread + 1e-9).all()


def test_keep_probability_is_louizos_closed_form():
    log_alpha = torch.linspace(-6, 6, 25, dtype=torch.float64)
    expected = torch.sigmoid(log_alpha - BETA * torch.tensor(-GAMMA / ZETA, dtype=torch.float64).log())
    assert torch.allclose(keep_probability(log_alpha), expected, atol=1e-12)


def test_samples_are_gates_with_gradients_at_the_middle():
    torch.manual_seed(1)
    log_alpha = torch.zeros(5000, requires_grad=True)
    draws = sample(log_alpha)
    assert draws.min() == 0
    assert draws.max() == 1
    (gradient,) = torch.autograd.grad(draws.sum(), log_alpha)
    assert gradient.sum() > 0
    assert (gradient[(draws == 0) | (draws == 1)] == 0).all()


def test_noiseless_gates_are_open_where_they_start():
    assert keep_probability(torch.tensor(UNHARMED)) > 0.99
    assert deterministic(torch.tensor(UNHARMED)) == 1.0
    assert deterministic(torch.tensor(-UNHARMED)) == 0.0


def test_every_gate_gets_a_gradient_in_training(model, anatomy, padded):
    torch.manual_seed(2)
    gates = Gates(anatomy)
    with torch.no_grad():
        gates.units.zero_()
        gates.branches.zero_()
    model.train()
    total_units, total_branches = torch.zeros_like(gates.units), torch.zeros_like(gates.branches)
    for _ in range(25):
        with gated(model, gates):
            loss = model(**padded).logits.square().mean()
        units, branches = torch.autograd.grad(loss, (gates.units, gates.branches))
        total_units += units.abs()
        total_branches += branches.abs()
    assert (total_units > 0).all()
    assert (total_branches[gates.skippable] > 0).all()


def test_gates_draw_anew_in_training_and_stand_still_in_evaluation(model, anatomy, padded):
    gates = Gates(anatomy)
    with torch.no_grad():
        gates.units.zero_()
    with gated(model.eval(), gates):
        assert torch.equal(model(**padded).logits, model(**padded).logits)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with gated(model.train(), gates):
        assert not torch.equal(model(**padded).logits, model(**padded).logits)
        gates.sampled = False
        gates.draw(noise=True)
        model(**padded)
        noiseless = torch.cat([gates.values(position)[0] for position in range(len(gates.groups))])
        assert torch.equal(noiseless, deterministic(gates.units))


def test_a_forward_of_training_draws_once_even_if_its_layers_are_run_again(model, anatomy, padded, monkeypatch):
    head, gates, drawn, runs = head_of(model), Gates(anatomy), [], []
    draw = gates.draw
    monkeypatch.setattr(gates, "draw", lambda *, noise: (drawn.append(noise), draw(noise=noise)))
    consumer = model.get_submodule(anatomy.groups[-1].consumer)
    consumer.register_forward_pre_hook(lambda module, args: runs.append(1))
    with gated(model.train(), gates), recomputed(model):
        head.outputs(head.forward(model, padded)).square().mean().backward()
    assert drawn == [True]
    assert len(runs) == 2
    assert gates.units.grad.abs().sum() > 0


@pytest.mark.parametrize("value", [0.0, 0.25, 0.8, 1.0])
def test_values_can_be_set(anatomy, value):
    gates = Gates(anatomy)
    wanted = gates.noiseless()
    for units in wanted.units.values():
        units.fill_(value)
    gates.set_values(wanted)
    for units in gates.noiseless().units.values():
        assert torch.allclose(units, torch.full_like(units, value), atol=1e-6)
