"""The law: the gated model and the cut model are the same function."""

import copy

import pytest
import torch
from helpers.families import edge_plans, random_plan

from trimbre.errors import UserError
from trimbre.models.families.registry import anatomy_of
from trimbre.models.positions import valid_frames
from trimbre.plan import Plan
from trimbre.pruning.gates import Gates, gated
from trimbre.pruning.surgery import GateValues, cut


def scales_of(plan: Plan, *, soft_seed: int | None = None) -> GateValues:
    """Gates at 1 on what the plan keeps (or drawn from 0.3 to 1), at 0 elsewhere."""
    generator = torch.Generator().manual_seed(soft_seed or 0)
    units, branches = {}, {}
    for path, size in plan.sizes.items():
        value = torch.rand(size, generator=generator) * 0.7 + 0.3 if soft_seed else torch.ones(size)
        mask = torch.zeros(size)
        mask[list(plan.kept[path])] = 1.0
        units[path] = value * mask
        branches[path] = torch.tensor(0.0 if path in plan.skipped else 0.6 if soft_seed else 1.0)
    return GateValues(units, branches)


def outputs(model, inputs):
    """Logits on valid frames only: what stands on padding is nobody's output."""
    with torch.no_grad():
        logits = model(**inputs).logits
    return logits[valid_frames(model, inputs, logits)]


def assert_masked_equals_sliced(model, inputs, plan, soft_seed=None):
    gates = Gates(anatomy_of(model))
    gates.set_values(scales_of(plan, soft_seed=soft_seed))
    with gated(model, gates):
        masked = outputs(model, inputs)
    sliced = outputs(cut(model, plan, gate_values=gates.noiseless()), inputs)
    assert (masked - sliced).norm() <= 1e-5 * masked.norm()
    return masked


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("soft", [False, True])
def test_masked_equals_sliced_at_random_plans(model, anatomy, padded, seed, soft):
    plan = random_plan(anatomy, seed)
    masked = assert_masked_equals_sliced(model, padded, plan, soft_seed=seed + 1 if soft else None)
    assert (masked - outputs(model, padded)).norm() > 1e-2 * masked.norm()  # the plan did change something


def test_masked_equals_sliced_at_edges(model, anatomy, padded):
    for plan in edge_plans(anatomy).values():
        assert_masked_equals_sliced(model, padded, plan)


def test_cutting_nothing_changes_nothing(model, anatomy, padded):
    assert torch.equal(outputs(model, padded), outputs(cut(model, Plan.everything(anatomy.sizes)), padded))


def test_gates_leave_no_trace(model, anatomy, padded):
    before, state = outputs(model, padded), copy.deepcopy(model.state_dict())
    gates = Gates(anatomy)
    gates.set_values(scales_of(random_plan(anatomy, 0)))
    with gated(model, gates):
        assert not torch.equal(before, outputs(model, padded))
    assert torch.equal(before, outputs(model, padded))

    def interrupted():
        with gated(model, gates):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        interrupted()
    assert torch.equal(before, outputs(model, padded))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_cut_model_shares_no_memory_with_the_dense_one(model, anatomy, padded):
    before = outputs(model, padded)
    small = cut(model, random_plan(anatomy, 3))
    with torch.no_grad():
        for tensor in (*small.parameters(), *small.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(3.0)
    assert torch.equal(before, outputs(model, padded))


def test_cutting_twice_is_cutting_once_by_the_composed_plan(model, anatomy, padded):
    first = random_plan(anatomy, 4)
    once = cut(model, first)
    second = random_plan(anatomy_of(once), 5)
    twice = cut(once, second)
    directly = cut(model, first.then(second))
    assert torch.allclose(outputs(twice, padded), outputs(directly, padded), atol=1e-6)
    assert twice.config.trimbre["skipped"] == directly.config.trimbre["skipped"]


def test_a_cut_model_trains(model, anatomy, padded):
    small = cut(model, random_plan(anatomy, 6)).train()
    small(**padded).logits.square().mean().backward()
    gradients = [p.grad for p in small.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_plan_for_another_model_is_refused(model, anatomy):
    sizes = dict(anatomy.sizes)
    path = next(iter(sizes))
    sizes[path] += 1
    with pytest.raises(UserError, match=path):
        cut(model, Plan.everything(sizes))
