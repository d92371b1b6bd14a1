"""Distillation terms against closed forms, and padding that must not matter."""

import copy

import pytest
import torch
from torch import nn

from trimbre.config import LAYER_DISTANCES, DistillationConfig
from trimbre.data.batches import Batch
from trimbre.errors import UserError
from trimbre.models.families.registry import head_of
from trimbre.models.heads.ctc import CTC, blank_id, collapse
from trimbre.models.positions import valid_frames
from trimbre.models.regularisation import without_regularisation
from trimbre.training.distillation import Distiller, Objective, layer_loss, posterior_loss
from trimbre.training.task_loss import transcript_loss


def test_posterior_loss_is_the_divergence_over_valid_frames():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    valid = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    p, q = teacher.softmax(-1), student.softmax(-1)
    by_hand = (p * (p / q).log()).sum(-1)[valid].mean()
    assert posterior_loss(student, teacher, valid) == pytest.approx(float(by_hand), rel=1e-5)
    assert posterior_loss(teacher, teacher, valid) == pytest.approx(0, abs=1e-6)


def test_layer_loss_is_relative_to_the_teachers_energy():
    teacher = torch.ones(1, 4, 3)
    valid = torch.tensor([[True, True, True, False]])
    student = teacher.clone()
    student[0, 3] = 100  # padding
    assert layer_loss((student,), (teacher,), valid) == 0
    assert layer_loss((3 * teacher, student), (teacher, teacher), valid) == pytest.approx((4 + 0) / 2)


def test_l1_and_cosine_by_hand():
    student, teacher = torch.tensor([[[3.0, 4.0], [9.0, 9.0]]]), torch.tensor([[[4.0, 3.0], [0.0, 0.0]]])
    valid = torch.tensor([[True, False]])
    found = layer_loss((student,), (teacher,), valid, distance="l1-cosine")
    assert float(found) == pytest.approx((1 + 1) / 2 + 1 - 24 / 25)
    assert layer_loss((teacher,), (teacher,), valid, distance="l1-cosine") == pytest.approx(0, abs=1e-6)


def test_every_so_many_th_layer_is_matched():
    teacher = torch.ones(1, 4, 3)
    valid = torch.ones(1, 4, dtype=torch.bool)
    stack = (teacher, 2 * teacher, 3 * teacher)
    assert layer_loss(stack, (teacher,) * 3, valid) == pytest.approx((0 + 1 + 4) / 3)
    assert layer_loss(stack, (teacher,) * 3, valid, every=2) == pytest.approx((0 + 4) / 2)


def test_the_options_say_which_layers_and_which_distance(model, anatomy, padded):
    output = {}
    for name, options in {
        "all": DistillationConfig(),
        "first": DistillationConfig(match_every=100),
        "cosine": DistillationConfig(layer_distance="l1-cosine"),
    }.items():
        other = copy.deepcopy(model).eval()
        with torch.no_grad():
            for path, parameter in other.named_parameters():
                if path.startswith(anatomy.scopes["blocks"]):
                    parameter.mul_(0.9)
            found = head_of(model).forward(other, padded, hidden_states=True)
            valid = valid_frames(other, padded, head_of(model).outputs(found))
            output[name] = float(Distiller(copy.deepcopy(model), options)(found, padded, valid)["layer"])
    assert output["first"] == pytest.approx(0, abs=1e-6)  # what the first block reads is the same
    assert output["all"] > 1e-4
    assert output["cosine"] != pytest.approx(output["all"], rel=1e-2)


@pytest.mark.parametrize("distance", LAYER_DISTANCES)
def test_values_on_padding_change_no_term(model, padded, distance):
    if "attention_mask" not in padded and "decoder_attention_mask" not in padded:
        pytest.skip("without a mask all frames count")
    teacher = copy.deepcopy(model)
    distiller = Distiller(teacher, DistillationConfig(layer_distance=distance))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
        output = head_of(model).forward(model, padded, hidden_states=True)
        valid = valid_frames(model, padded, head_of(model).outputs(output))
        before = distiller(output, padded, valid)
        head_of(model).outputs(output)[~valid] = 50.0
        for hidden in output.get("decoder_hidden_states") or output.hidden_states:
            hidden[~valid] = 50.0
        after = distiller(output, padded, valid)
    assert not valid.all()
    assert all(term > 0 for term in before.values())
    for name, term in before.items():
        assert torch.allclose(term, after[name]), name


def test_the_teacher_is_frozen_and_the_sum_is_what_trains(model, padded):
    teacher = copy.deepcopy(model)
    state = copy.deepcopy(teacher.state_dict())
    objective = Objective(model.train(), Distiller(teacher.train(), DistillationConfig(posterior_weight=2.0)))
    terms = objective(Batch(padded, None, (), (), 1.0), 0)
    assert set(terms) == {"loss", "posterior", "layer"}  # without transcripts the task drops out
    assert float(terms["loss"].detach()) == pytest.approx(float(terms["posterior"] + terms["layer"]), rel=1e-5)
    terms["loss"].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, state[name]) for name, value in teacher.state_dict().items())
    labels = torch.tensor([[3, 4], [5, -100], [6, 7]])
    if "decoder_input_ids" in padded:  # of which each is followed by a label
        labels = nn.functional.pad(labels, (0, 5), value=-100)
    assert "task" in objective(Batch(padded, labels, (), (), 1.0), 1)


def test_no_layer_is_dropped_while_layers_are_compared(model, padded):
    dropping = [holder for holder in (model.config, *model.modules()) if hasattr(holder, "layerdrop")]
    for holder in dropping:
        holder.layerdrop = 1.0
    objective = Objective(model.train(), Distiller(copy.deepcopy(model), DistillationConfig(layer_weight=1)))
    with without_regularisation(model):
        assert float(objective(Batch(padded, None, (), (), 1.0), 0)["layer"]) < 1
    if not dropping:
        return
    with pytest.raises((ValueError, AttributeError, TypeError, IndexError)):  # as it was before: every layer drops
        objective(Batch(padded, None, (), (), 1.0), 0)


def test_a_student_that_is_its_teacher_is_no_distance_from_it(model, padded):
    """In train mode too: no dropout, no masks, no dropped layer stand between them. BatchNorm's statistics may."""
    teacher = copy.deepcopy(model)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    objective = Objective(model, Distiller(teacher, DistillationConfig()))
    batch = Batch(padded, None, (), (), 1.0)
    with without_regularisation(model):
        assert float(objective(batch, 0)["loss"].detach()) == pytest.approx(0, abs=1e-5)
    assert float(objective(batch, 0)["loss"].detach()) > 1e-3  # as it was before


def test_the_task_counts_by_its_weight(model, padded):
    labels = torch.tensor([[3, 4], [5, -100], [6, 7]])
    if "decoder_input_ids" in padded:
        labels = nn.functional.pad(labels, (0, 5), value=-100)
    batch, found = Batch(padded, labels, (), (), 1.0), {}
    for weight in (0.0, 1.0, 2.0):
        distiller = Distiller(copy.deepcopy(model), DistillationConfig(task_weight=weight))
        found[weight] = Objective(model.eval(), distiller)(batch, 0)
    assert "task" not in found[0.0]
    assert float(found[2.0]["task"]) == pytest.approx(2 * float(found[1.0]["task"]))
    with pytest.raises(UserError, match="no loss is left"):
        DistillationConfig(task_weight=0, posterior_weight=0, layer_weight=0)


def test_terms_can_be_left_out(model, padded):
    objective = Objective(model, Distiller(copy.deepcopy(model), DistillationConfig(layer_weight=0.0)))
    assert set(objective(Batch(padded, None, (), (), 1.0), 0)) == {"loss", "posterior"}


@pytest.mark.ctc
def test_a_transcript_with_more_to_write_than_there_are_frames_leaves_the_loss_finite(model, padded):
    model.config.ctc_zero_infinity = False
    labels = torch.arange(3, 3 + 600).remainder(20).add(3).expand(3, -1)
    batch = Batch(padded, labels, (), (), 1.0)
    objective = Objective(model.eval(), Distiller(copy.deepcopy(model), DistillationConfig()))
    assert not torch.isfinite(objective(batch, 0)["loss"])
    with without_regularisation(model):
        assert torch.isfinite(objective(batch, 0)["loss"])
    assert torch.isfinite(transcript_loss(model, batch))
    assert model.config.ctc_zero_infinity is False


def test_the_hidden_state_weight_is_the_family_s_or_the_one_given(model, padded):
    batch = Batch(padded, None, (), (), 1.0)
    student = copy.deepcopy(model).eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.1)
    found = {
        weight: float(Objective(student, Distiller(model, DistillationConfig(layer_weight=weight)))(batch, 0)["layer"])
        for weight in (None, 1.0, 2.0)
    }
    assert found[2.0] == pytest.approx(2 * found[1.0])
    assert found[None] == pytest.approx((1 if head_of(model).positions == "tokens" else 100) * found[1.0])
    assert not DistillationConfig(posterior_weight=0, layer_weight=0).from_teacher
    assert DistillationConfig(posterior_weight=0).from_teacher


@pytest.mark.ctc
def test_silence_without_transcript_has_a_loss(model, padded):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lm_head" in name or "ctc_head" in name:
                parameter.zero_()
                if name.endswith("bias"):
                    parameter[model.config.pad_token_id] = 5.0
    batch = Batch(padded, None, (), (), 1.0)
    assert all(collapse(row, blank_id(model)) == [] for row in CTC(lengths=None).frame_labels(model, padded))
    assert torch.isfinite(transcript_loss(model, batch))


@pytest.mark.ctc
def test_the_task_is_a_mean_whatever_the_config_says(model, padded):
    labels = torch.tensor([[3, 4], [5, -100], [6, 7]])
    found = {}
    for reduction in ("mean", "sum"):
        model.config.ctc_loss_reduction = reduction
        found[reduction] = float(transcript_loss(model.eval(), Batch(padded, labels, (), (), 1.0)).detach())
        assert model.config.ctc_loss_reduction == reduction
    assert found["sum"] == found["mean"]
