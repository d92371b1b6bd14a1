"""The corrective refit: exact where what left can be made up for, and never worse than nothing on what it saw."""

import copy
from functools import partial

import pytest
import torch
from helpers.families import last_states, random_plan, torch_is_right, twin

from trimbre.data.batches import Batch
from trimbre.errors import UserError
from trimbre.models.positions import valid_frames
from trimbre.plan import Plan
from trimbre.pruning.refit import _gradients, refit
from trimbre.pruning.surgery import cut


@pytest.fixture
def batch(padded):
    return Batch(padded, None, (), (), 3.0)


def distance(one, other, batch) -> float:
    """Of the last hidden states, relative to the other's norm, where there is audio."""
    with torch.no_grad():
        mine, theirs = (last_states(m(**batch.inputs, output_hidden_states=True)) for m in (one, other))
    row = mine[2] - theirs[2]  # the longest clip has no padding
    return float(row.norm() / theirs[2].norm())


def test_removing_a_redundant_unit_changes_no_output(model, anatomy, batch):
    for group in anatomy.groups:
        twin(model, group)
    kept = {group.path: tuple(unit for unit in range(group.size) if unit != 1) for group in anatomy.groups}
    plan = Plan(anatomy.sizes, kept)
    small = cut(model, plan)
    assert distance(small, model, batch) > 1e-2
    refit(small, model, [batch], plan=plan, ridge=1e-8)
    assert distance(small, model, batch) < 1e-3


def test_a_model_that_lost_nothing_stays_as_it_is(model, anatomy, batch):
    whole = copy.deepcopy(model)
    refit(whole, model, [batch], plan=Plan.everything(anatomy.sizes))
    assert all(torch.allclose(value, model.state_dict()[name], atol=1e-5) for name, value in whole.state_dict().items())
    assert not whole.training


@pytest.mark.parametrize("seed", [0, 1])
def test_the_stream_comes_nearer_to_the_teacher_s(model, anatomy, batch, seed):
    plan = random_plan(anatomy, seed, skip=0.1)
    small = cut(model, plan).train()
    before = copy.deepcopy(small)
    refit(small, model, [batch], plan=plan)
    assert small.training
    assert distance(small.eval(), model, batch) < 0.8 * distance(before.eval(), model, batch)
    moved = {name for name, value in small.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    consumers = tuple({f"{group.kind.consumer}." for group in anatomy.groups})
    assert all(any(f".{consumer}" in name for consumer in consumers) for name in moved)


def loud(model, batch):
    """A loss that is not at its minimum."""
    logits = model(**batch.inputs).logits
    return logits[valid_frames(model, batch.inputs, logits)].square().mean()


def test_gradients_are_those_of_the_last_block_alone(model, anatomy, batch):
    last = [group for group in anatomy.groups if group.positions == anatomy.groups[-1].positions][-1].block
    gradients = _gradients(model.eval(), batch, last, partial(loud, model))
    stream = []
    with model.get_submodule(last).register_forward_hook(
        lambda module, args, output: stream.append(output[0] if isinstance(output, tuple) else output)
    ):
        before = loud(model, batch)
    step = 1e-3 / float(gradients.norm())
    with (
        torch.no_grad(),
        model.get_submodule(last).register_forward_hook(lambda module, args, output: _moved(output, step * gradients)),
    ):
        risen = float(loud(model, batch) - before)
    assert risen == pytest.approx(step * float(gradients.square().sum()), rel=0.05)


def _moved(output, by):
    return (output[0] + by, *output[1:]) if isinstance(output, tuple) else output + by


def test_frames_with_large_gradients_are_fitted_best(model, anatomy, batch):
    """The loss depends on the second half of a clip only: there the stream is nearer than without a loss."""
    small = cut(model, random_plan(anatomy, 2, skip=0.1))

    def halved(one, batch):
        logits = one(**batch.inputs).logits
        return logits[2:, logits.shape[1] // 2 :].square().mean()

    def apart(one):
        with torch.no_grad():
            mine, theirs = (last_states(m(**batch.inputs, output_hidden_states=True)) for m in (one, model))
        return (mine - theirs)[2:, mine.shape[1] // 2 :].norm()

    alike, counted = copy.deepcopy(small), copy.deepcopy(small)
    refit(alike, model, [batch])
    refit(counted, model, [batch], loss=partial(halved, model))
    assert apart(counted) < apart(alike)


def test_under_autocast_a_branch_reads_what_the_refit_made_of_those_before_it(model, anatomy, batch):
    """In bfloat16 as well: autocast keeps copies of weights that the refit has moved since."""
    if model.config.model_type.startswith("wav2vec2") and not torch_is_right():
        pytest.skip("torch's grouped convolutions in half precision are wrong on this processor")
    small = cut(model, random_plan(anatomy, 0, skip=0.1))
    full, half = copy.deepcopy(small), copy.deepcopy(small)
    refit(full, model, [batch])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        refit(half, model, [batch])
    assert distance(half, model, batch) < 1.5 * distance(full, model, batch) + 0.01


def silenced(model, group) -> None:
    """Zero the projection of a branch, which then adds nothing to its stream."""
    with torch.no_grad():
        for parameter in model.get_submodule(group.consumer).parameters():
            parameter.zero_()


def deadened(model, group) -> None:
    """Zero all that feeds the units of a branch, whose outputs are then zero (of convolutions: after the norm)."""
    module = model.get_submodule(group.home)
    with torch.no_grad():
        for row in group.kind.slices:
            if not row.tensor.startswith(f"{group.kind.consumer}."):
                owner, _, name = row.tensor.rpartition(".")
                value = getattr(module.get_submodule(owner), name)
                if value is not None and "running_var" not in name:
                    value.zero_()


def one_of_each_kind(anatomy):
    return list({group.kind.name: group for group in anatomy.groups if group.residual}.values())


def test_a_branch_that_adds_nothing_keeps_its_weights(model, anatomy, batch):
    kept = {group.path: tuple(range(group.size - 1)) for group in anatomy.groups}
    quiet = one_of_each_kind(anatomy)
    for group in quiet:
        silenced(model, group)
    small = cut(model, Plan(anatomy.sizes, kept))
    with torch.no_grad():
        for group in quiet:
            for parameter in small.get_submodule(group.consumer).parameters():
                parameter.fill_(0.1)
    before = copy.deepcopy(small.state_dict())
    refit(small, model, [batch])
    assert all(value.isfinite().all() for value in small.state_dict().values())
    for group in quiet:
        for name, value in small.get_submodule(group.consumer).named_parameters():
            assert torch.equal(value, before[f"{group.consumer}.{name}"])


def test_units_that_put_out_zeros_leave_the_weights_finite(model, anatomy, batch):
    small = cut(model, Plan(anatomy.sizes, {group.path: tuple(range(group.size - 1)) for group in anatomy.groups}))
    dead = one_of_each_kind(anatomy)
    for group in dead:
        deadened(small, group)
    before = copy.deepcopy(small.state_dict())
    refit(small, model, [batch])
    assert all(value.isfinite().all() for value in small.state_dict().values())
    for group in dead:  # no weight makes a difference where nothing is read
        name = f"{group.consumer}.weight"
        assert torch.allclose(small.state_dict()[name], before[name], atol=1e-6)


@pytest.mark.once
def test_a_projection_without_a_solution_is_named(model, anatomy, batch):
    small = cut(model, random_plan(anatomy, 1, skip=0.0))
    group = anatomy.groups[0]
    with torch.no_grad():
        small.get_submodule(group.home).get_parameter(group.kind.slices[0].tensor).fill_(float("inf"))
    with pytest.raises(UserError, match=f"refit of {group.consumer}"):
        refit(small, model, [batch])
