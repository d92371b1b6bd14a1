"""Second-order importance against explicit least squares, autograd, and units that others can stand in for."""

import copy

import pytest
import torch
from helpers.families import twin

from trimbre.data.batches import Batch
from trimbre.models.positions import valid_frames
from trimbre.pruning.least_squares import RIDGE, frame_weights
from trimbre.pruning.scores.obs import Moments, _recorded, collect_moments, projection_scores


@pytest.fixture
def batch(padded):
    return Batch(padded, None, (), (), 3.0)


def loudness(model):
    """A loss that is not at its minimum, of the inputs alone."""

    def loss(batch):
        logits = model(**batch.inputs).logits
        return logits[valid_frames(model, batch.inputs, logits)].square().mean()

    return loss


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    read = torch.randn(200, 12, generator=generator, dtype=torch.float64) @ mixed
    read = torch.cat([read, torch.ones(200, 1, dtype=torch.float64)], 1)
    gradients = torch.randn(50, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 12, generator=generator, dtype=torch.float64)
    return weight, Moments(read.T @ read / 200, gradients.T @ gradients)


def least(weight, found, gone):
    """The least that the loss rises when channels leave, by solving for all other weights, the bias among them."""
    inner = found.inputs + RIDGE * found.inputs.diagonal()[:-1].mean() * torch.eye(13, dtype=torch.float64)
    stay = [channel for channel in range(len(inner)) if channel not in gone]
    moved = torch.linalg.solve(inner[stay][:, stay], inner[stay][:, gone] @ weight[:, gone].T)
    change = torch.zeros(len(inner), len(weight), dtype=torch.float64)
    change[gone], change[stay] = -weight[:, gone].T, moved
    return float((found.gradients @ change.T @ inner @ change).trace() / 2)


@pytest.mark.parametrize("rows", [1, 3])
def test_scores_are_the_loss_increase_of_an_explicit_solution(problem, rows):
    weight, found = problem
    units = weight.shape[1] // rows
    scores = projection_scores(weight, found, rows=rows)
    alone = [least(weight, found, list(range(u * rows, (u + 1) * rows))) for u in range(units)]
    first, second = scores.argsort()[:2].tolist()
    assert first == min(range(units), key=alone.__getitem__)
    assert float(scores[first]) == pytest.approx(alone[first], rel=1e-9)
    channels = [u * rows + row for u in (first, second) for row in range(rows)]
    next_one = least(weight, found, channels) - alone[first]  # counts as no cheaper than the one before
    assert float(scores[second]) == pytest.approx(max(next_one, alone[first]), rel=1e-9)


def test_without_a_bias_nothing_makes_up_for_what_a_unit_is_on_average(problem):
    weight, found = problem
    moved = found.inputs.clone()
    moved[:-1, :-1] += 4 * torch.ones(12, 12, dtype=torch.float64)  # as if all channels were 2 on average
    moved[-1, :-1] += 2
    moved[:-1, -1] += 2
    found = Moments(moved, found.gradients)
    inner = moved[:-1, :-1] + RIDGE * moved.diagonal()[:-1].mean() * torch.eye(12, dtype=torch.float64)
    change = torch.linalg.inv(inner)
    alone = [float((found.gradients @ weight[:, [u]] @ weight[:, [u]].T).trace() / change[u, u] / 2) for u in range(12)]
    scores = projection_scores(weight, found, rounds=1, bias=False)
    assert torch.allclose(scores, torch.tensor(alone, dtype=torch.float64), rtol=1e-9)
    assert (scores >= projection_scores(weight, found, rounds=1)).all()


def test_the_best_is_the_last_to_leave_and_all_have_a_score(problem):
    weight, found = problem
    scores = projection_scores(weight, found)
    assert (scores > 0).all()
    # By the time that it leaves little is there to make up for it.
    assert float(scores.max()) > least(weight, found, [int(scores.argmax())])


def test_a_few_at_a_time_leave_by_what_each_would_cost(problem):
    weight, found = problem
    alone = torch.tensor([least(weight, found, [channel]) for channel in range(12)], dtype=torch.float64)
    assert torch.allclose(projection_scores(weight, found, rounds=1), alone, rtol=1e-9)


def test_slopes_and_inputs_are_those_of_the_projections(model, anatomy, batch):
    model.double().eval()
    clip = {name: value[2:] for name, value in batch.inputs.items()}  # the longest: padding has gradients too
    inputs = {name: v.double() if v.is_floating_point() else v for name, v in clip.items()}
    batch = Batch(inputs, None, (), (), 3.0)
    biased = [g for g in anatomy.groups if getattr(model.get_submodule(g.consumer), "bias", None) is not None]
    wanted = torch.autograd.grad(loudness(model)(batch), [model.get_submodule(g.consumer).bias for g in biased])
    model.requires_grad_(False)
    for (read, gradients), bias in zip(_recorded(model, biased, batch, loudness(model)), wanted, strict=True):
        assert torch.allclose(gradients.sum(0).double(), bias, rtol=1e-4, atol=1e-9)
        assert (read[:, -1] == 1).all()
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.ctc
def test_padding_does_not_count(model, anatomy, batch):
    with torch.no_grad():
        logits = model.eval()(**batch.inputs).logits
    valid = valid_frames(model, batch.inputs, logits)
    if "attention_mask" not in batch.inputs:
        pytest.skip("without a mask all frames count")
    assert not valid.all()
    model.requires_grad_(False)
    for read, gradients in _recorded(model, anatomy.groups, batch, loudness(model)):
        assert len(read) == len(gradients) == int(valid.sum())


def test_a_redundant_unit_has_a_score_near_zero(model, anatomy, batch):
    for group in anatomy.groups:
        twin(model, group)
    found = collect_moments(model, anatomy.groups, [batch], loudness(model))
    for group, own in zip(anatomy.groups, found, strict=True):
        weight = model.get_submodule(group.consumer).weight.detach().flatten(1)
        rows = weight.shape[1] // group.size
        scores = projection_scores(weight, own, rows=rows, ridge=1e-6)
        unit = int(scores[:2].argmin())
        held = slice(unit * rows, (unit + 1) * rows)
        read, writes = own.inputs[held, held], weight[:, held].double()
        left_alone = float((own.gradients @ writes @ read @ writes.T).trace() / 2)
        assert float(scores[unit]) < 0.2 * left_alone


def test_scoring_leaves_the_model_as_it_was(model, anatomy, batch):
    before = copy.deepcopy(model.state_dict())
    learned = [parameter.requires_grad for parameter in model.parameters()]
    model.train()
    collect_moments(model, anatomy.groups, [batch], loudness(model))
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == learned
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frames_count_in_what_is_read_by_the_slopes_there(model, anatomy, batch):
    model.requires_grad_(False).eval()
    found = collect_moments(model, anatomy.groups, [batch], loudness(model))
    for own, (read, gradients) in zip(found, _recorded(model, anatomy.groups, batch, loudness(model)), strict=True):
        counts = frame_weights(gradients).double()
        wanted = torch.einsum("n,ni,nj->ij", counts, read.double(), read.double()) / counts.sum()
        assert torch.allclose(own.inputs, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))


def test_units_that_put_out_zeros_cost_nothing_and_the_rest_is_scored(problem):
    weight, found = problem
    inputs = found.inputs.clone()
    inputs[:-1], inputs[:, :-1] = 0, 0
    scores = projection_scores(weight, Moments(inputs, found.gradients))
    assert scores.isfinite().all()
    assert float(scores.max()) < 1e-12 * float(projection_scores(weight, found).min())
    inputs = found.inputs.clone()
    inputs[3], inputs[:, 3] = 0, 0
    scores = projection_scores(weight, Moments(inputs, found.gradients))
    assert scores.isfinite().all()
    assert int(scores.argmin()) == 3
