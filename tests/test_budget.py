"""The expected cost is the exact cost, and the exact cost is what the cut model has."""

import pytest
import torch
from conftest import edge_plans, random_plan
from torch.utils.flop_counter import FlopCounterMode

from trimbre.budget.macs import REFERENCE_SECONDS, macs_budget, on_meta, reference_inputs
from trimbre.budget.params import params_budget
from trimbre.gates import Gates, keep_probability
from trimbre.plan import Plan
from trimbre.surgery import cut


def every_plan(anatomy):
    return [random_plan(anatomy, seed) for seed in range(6)] + list(edge_plans(anatomy).values())


def counted_macs(model, processor):
    """FlopCounterMode's count under eager attention (it counts fused attention on a CPU as nothing)."""
    inputs = {name: value.to("meta") for name, value in reference_inputs(processor).items()}
    ghost = on_meta(model).eval()
    ghost.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(**inputs)
    return counter.get_total_flops() / 2 / REFERENCE_SECONDS


@pytest.mark.parametrize("scope", ["blocks", "encoder", "model"])
def test_parameters_are_those_of_the_cut_model(model, anatomy, scope):
    budget = params_budget(model, anatomy, scope=scope)
    prefix = anatomy.scopes[scope]
    bare = {g.path for g in anatomy.groups if model.get_submodule(f"{g.path}.{g.kind.consumer}").bias is None}
    for plan in every_plan(anatomy):
        # Without units and without a bias nothing is left of a module: a search says so by skipping it.
        empty = {path for path, units in plan.kept.items() if path in bare and not units}
        plan = Plan(plan.sizes, plan.kept, plan.skipped | empty)
        named = cut(model, plan).named_parameters()
        assert budget.cost.of(plan) == sum(p.numel() for name, p in named if name.startswith(prefix))


def test_macs_are_those_that_torch_counts(model, anatomy, processor):
    budget = macs_budget(model, anatomy, reference_inputs(processor), scope="model")
    assert budget.dense == pytest.approx(counted_macs(model, processor), rel=1e-9)
    for plan in every_plan(anatomy):
        assert budget.cost.of(plan) == pytest.approx(counted_macs(cut(model, plan), processor), rel=1e-9)


def test_scopes_differ_by_what_cannot_be_cut(model, anatomy, processor):
    inputs = reference_inputs(processor)
    blocks, encoder, whole = (macs_budget(model, anatomy, inputs, scope=s) for s in ("blocks", "encoder", "model"))
    assert 0 <= blocks.cost.fixed < encoder.cost.fixed < whole.cost.fixed
    assert blocks.dense < encoder.dense < whole.dense


def test_expected_cost_is_the_mean_over_drawn_plans(model, anatomy):
    torch.manual_seed(0)
    gates = Gates(anatomy)
    with torch.no_grad():
        gates.units.normal_()
        gates.branches.normal_()
    budget = params_budget(model, anatomy)
    with torch.no_grad():
        expected = float(budget.cost(*gates.expected()))
    draws = []
    for _ in range(3000):
        alive = torch.bernoulli(keep_probability(gates.units.detach()).double())
        opens = torch.bernoulli(keep_probability(gates.branches.detach()).double())
        widths = torch.zeros(len(gates.sizes), dtype=torch.float64).index_add(0, gates.owner, alive)
        draws.append(float(budget.cost(widths, opens)))
    mean = torch.tensor(draws)
    assert abs(float(mean.mean()) - expected) < 4 * float(mean.std()) / len(draws) ** 0.5


def test_a_budget_counts_a_pruned_model_afresh(model, anatomy):
    from trimbre.anatomy import anatomy_of

    small = cut(model, random_plan(anatomy, 2))
    again = anatomy_of(small)
    budget = params_budget(small, again)
    plan = random_plan(again, 3)
    prefix = again.scopes["blocks"]
    assert budget.cost.of(plan) == sum(
        p.numel() for name, p in cut(small, plan).named_parameters() if name.startswith(prefix)
    )
