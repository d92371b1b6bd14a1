"""First-order importance against finite differences, and gates seeded by it."""

import copy

import pytest
import torch

from trimbre.config import GateConfig
from trimbre.costs.params import params_budget
from trimbre.costs.prices import unit_prices
from trimbre.models.families.registry import anatomy_of
from trimbre.models.positions import valid_frames
from trimbre.pruning.allocation import Protection, PruningTarget
from trimbre.pruning.constraint import SETTLED, Multipliers
from trimbre.pruning.gates import UNHARMED, Gates, gated, keep_probability, sample
from trimbre.pruning.methods.base import PruningContext
from trimbre.pruning.methods.l0 import seed_from_ranks, start_gates
from trimbre.pruning.scores.taylor import taylor_scores


def test_importance_is_the_squared_slope_of_the_loss(model, anatomy, padded):
    model.double()
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in padded.items()}

    def loss(_=None):  # on valid frames: fused attention's gradient is not that of its value where all is masked
        logits = model(**inputs).logits
        return logits[valid_frames(model, inputs, logits)].square().mean()

    scores = taylor_scores(model, anatomy, [0], loss)
    step = 1e-5
    for unit in (0, len(scores) // 2, len(scores) - 1):
        values = []
        for value in (1.0, 1.0 - step):
            gates = Gates(anatomy).double()
            scales = gates.noiseless()
            flat = torch.ones(len(scores), dtype=torch.float64)
            flat[unit] = value
            for path, part in zip(anatomy.sizes, flat.split(gates.sizes), strict=True):
                scales.units[path].copy_(part)
            gates.set_values(scales)
            with gated(model, gates), torch.no_grad():
                values.append(float(loss()))
        slope = (values[0] - values[1]) / step
        assert float(scores[unit]) == pytest.approx(slope**2, rel=1e-3)


def test_scoring_leaves_the_model_as_it_was(model, anatomy, padded):
    before = copy.deepcopy(model.state_dict())
    learned = [parameter.requires_grad for parameter in model.parameters()]
    model.train()
    taylor_scores(model, anatomy, [0], lambda _: model(**padded).logits.square().mean())
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == learned
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_seeded_gates_are_open_and_ordered_by_score_per_cost(model, anatomy, padded):
    budgets = [params_budget(model, anatomy)]
    scores = taylor_scores(model, anatomy, [0], lambda _: model(**padded).logits.square().mean())
    gates = Gates(anatomy)
    seed_from_ranks(gates, scores, budgets, spread=10.0)
    assert gates.units.min() >= UNHARMED
    worth = scores.double() / unit_prices(anatomy, budgets)
    assert torch.equal(torch.argsort(worth, stable=True), torch.argsort(gates.units.detach(), stable=True))


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_sinking_seeded_gates_closes_that_share_of_the_cost(model, anatomy, padded, share):
    budgets = [params_budget(model, anatomy)]
    scores = taylor_scores(model, anatomy, [0], lambda _: model(**padded).logits.square().mean())
    gates = Gates(anatomy)
    seed_from_ranks(gates, scores, budgets, spread=10.0)
    Multipliers(gates, budgets).meet(share)
    closed = keep_probability(gates.units.detach()) < 0.5
    cost = unit_prices(anatomy, budgets)
    assert float(cost[closed].sum() / cost.sum()) == pytest.approx(share, abs=0.05)


def test_a_models_anatomy_is_scored_after_a_cut_too(model, anatomy, padded):
    from helpers.families import random_plan

    from trimbre.pruning.surgery import cut

    small = cut(model, random_plan(anatomy, 1, skip=0.0))
    again = anatomy_of(small)
    scores = taylor_scores(small, again, [0], lambda _: small(**padded).logits.square().mean())
    assert len(scores) == sum(again.sizes.values())
    assert (scores > 0).any()


def test_protected_gates_stay_open_while_gates_are_trained(model, anatomy):
    budgets = [params_budget(model, anatomy)]
    protected = Protection.parse(["attention", "1"], anatomy).mask(anatomy)
    # Without a spread gates need no scores, and so no audio.
    context = PruningContext(None, None, None, gates=GateConfig(spread=0.0))
    gates = start_gates(model, context, PruningTarget(anatomy, budgets, 0.3, protected))
    held = protected[gates.owner]
    assert (sample(gates.units.detach())[held] == 1).all()
    assert (gates.units.detach()[~held] == UNHARMED).all()
    Multipliers(gates, budgets).meet(0.3)
    assert (gates.units.detach()[held] == SETTLED).all()
    assert (gates.units.detach()[~held] < UNHARMED).all()
