"""The expected cost is the exact cost, and the exact cost is what the cut model has."""

import pytest
import torch
from helpers.families import FAMILIES, edge_plans, random_plan
from torch.utils.flop_counter import FlopCounterMode

from trimbre.costs.macs import REFERENCE_SECONDS, TOKENS_PER_SECOND, macs_budget, on_meta, reference_of
from trimbre.costs.params import params_budget
from trimbre.models.families.registry import head_of
from trimbre.plan import Plan
from trimbre.pruning.gates import Gates, keep_probability
from trimbre.pruning.surgery import cut


def every_plan(anatomy):
    return [random_plan(anatomy, seed) for seed in range(6)] + list(edge_plans(anatomy).values())


def counted_macs(model, processor):
    """FlopCounterMode's count under eager attention (it counts fused attention on a CPU as nothing)."""
    reference = reference_of(model, processor)
    inputs = {name: value.to("meta") for name, value in reference.inputs.items()}
    ghost = on_meta(model).eval()
    ghost.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        head_of(ghost).decoding_forward(ghost, inputs)
    return counter.get_total_flops() / 2 / reference.seconds


def test_parameters_are_those_of_the_cut_model(model, anatomy):
    budgets = {scope: params_budget(model, anatomy, scope=scope) for scope in anatomy.scopes}
    bare = {g.path for g in anatomy.groups if model.get_submodule(g.consumer).bias is None}
    for plan in every_plan(anatomy):
        # Without units and without a bias nothing is left of a module: a search says so by skipping it.
        empty = {path for path, units in plan.kept.items() if path in bare and not units}
        plan = Plan(plan.sizes, plan.kept, plan.skipped | empty)
        named = dict(cut(model, plan).named_parameters())
        for scope, prefix in anatomy.scopes.items():
            assert budgets[scope].cost.of(plan) == sum(
                p.numel() for name, p in named.items() if name.startswith(prefix)
            )


def test_equal_plans_cost_the_same_whatever_the_order_of_their_groups(model, anatomy):
    budget = params_budget(model, anatomy, scope="model")
    plan = random_plan(anatomy, 3)
    turned = Plan(dict(reversed([*plan.sizes.items()])), plan.kept, plan.skipped)
    assert turned == plan
    assert budget.cost.of(turned) == budget.cost.of(plan)


def test_macs_are_those_that_torch_counts(model, anatomy, processor):
    budget = macs_budget(model, anatomy, reference_of(model, processor), scope="model")
    assert budget.dense == pytest.approx(counted_macs(model, processor), rel=1e-9)
    # What is cut from a transducer is a Parakeet's encoder.
    plans = every_plan(anatomy)[:2] if head_of(model).name == "transducer" else every_plan(anatomy)
    for plan in plans:
        assert budget.cost.of(plan) == pytest.approx(counted_macs(cut(model, plan), processor), rel=1e-9)


def test_a_transducer_joins_a_frame_or_a_token_at_every_step():
    """What is counted above is one forward, of our own: every frame leads on once, and every token is written once."""
    family = FAMILIES["transducer, TDT"]
    reference = reference_of(family.build(), family.processor())
    frames = -(-reference.inputs["input_features"].shape[1] // 8)
    tokens = round(TOKENS_PER_SECOND * REFERENCE_SECONDS)
    assert reference.positions["encoder_projector"] == frames
    assert reference.positions["decoder.lstm"] == reference.positions["decoder.decoder_projector"] == tokens
    assert reference.positions["joint.head"] == frames + tokens - 1


def test_scopes_differ_by_what_cannot_be_cut(model, anatomy, processor):
    reference = reference_of(model, processor)
    found = {scope: macs_budget(model, anatomy, reference, scope=scope) for scope in anatomy.scopes}
    blocks, whole = found.pop("blocks"), found.pop("model")
    if "encoder-blocks" in found:  # a part of both
        own = found.pop("encoder-blocks")
        assert own.dense < min(blocks.dense, found["encoder"].dense)
        assert 0 <= own.cost.fixed <= blocks.cost.fixed
    if "front" in found:  # a part of the encoder
        assert 0 < found.pop("front").dense < found["encoder"].dense
    parts = list(found.values())  # front end and output head are in none of the blocks
    assert 0 <= blocks.cost.fixed < sum(part.cost.fixed for part in parts) <= whole.cost.fixed
    assert blocks.dense < sum(part.dense for part in parts) <= whole.dense


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
    from trimbre.models.families.registry import anatomy_of

    small = cut(model, random_plan(anatomy, 2))
    again = anatomy_of(small)
    budget = params_budget(small, again)
    plan = random_plan(again, 3)
    prefix = again.scopes["blocks"]
    assert budget.cost.of(plan) == sum(
        p.numel() for name, p in cut(small, plan).named_parameters() if name.startswith(prefix)
    )
