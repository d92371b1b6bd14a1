"""What a function is given stays as it was: weights, precision, mode, flags, hooks and config, also after an error."""

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from helpers.families import random_plan
from helpers.runs import QUICK, SMALL
from torch import nn

from trimbre.data.batches import Batch, training_batches
from trimbre.data.cuts import read_cuts
from trimbre.errors import UserError
from trimbre.models.positions import valid_frames
from trimbre.pruning.equivalence import equality, verify_cutting
from trimbre.pruning.frozen import frozen_copy
from trimbre.pruning.pipeline import prune_model
from trimbre.pruning.refit import refit
from trimbre.pruning.scores.activation import activation_scores
from trimbre.pruning.scores.obs import obs_scores
from trimbre.pruning.scores.taylor import taylor_scores
from trimbre.pruning.surgery import GateValues, cut
from trimbre.training.loop import accelerator_for
from trimbre.training.recovery import Training

LEAN = replace(QUICK, low_memory=True, gates=replace(QUICK.gates, steps=1), recovery=replace(QUICK.recovery, steps=1))


def everything(model):
    """All that a function could change of a model."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return {
        "class": type(model),
        "config": copy.deepcopy(model.config.to_dict()),
        "attention": model.config._attn_implementation,
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "precision": {name: (value.dtype, value.device) for name, value in model.state_dict().items()},
        "learns": {name: one.requires_grad for name, one in model.named_parameters()},
        "gradients": {name for name, one in model.named_parameters() if one.grad is not None},
        "mode": {name: module.training for name, module in model.named_modules()},
        "dropout": {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)},
        "hooks": Counter(len(getattr(module, kind)) for module in model.modules() for kind in hooks),
    }


def assert_unchanged(model, before):
    after = everything(model)
    weights = before["weights"], after["weights"]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert before | {"weights": None} == after | {"weights": None}


@pytest.fixture
def marked(model):
    """A model that a user has frozen in part and whose modules are in different modes."""
    model.train()
    next(iter(model.children())).eval()
    list(model.parameters())[3].requires_grad_(False)
    return model


@pytest.fixture
def training(processor, noise_corpus):
    def batches(start):
        cuts = read_cuts(noise_corpus)
        return training_batches(cuts, processor=processor, options=SMALL, seed=0, start=start)

    return Training(batches, batches, accelerator_for("bf16"), seed=0)


def test_pruning_leaves_its_model_as_it_was_and_can_be_repeated(marked, processor, training):
    before = everything(marked)
    first = prune_model(marked, processor, config=LEAN, training=training)
    assert_unchanged(marked, before)
    again = prune_model(marked, processor, config=LEAN, training=training)
    assert first.result.plan == again.result.plan
    ours, theirs = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    learns = dict(marked.named_parameters())
    assert all(one.requires_grad == learns[name].requires_grad for name, one in first.model.named_parameters())


@pytest.mark.parametrize("stop", [0, 2, 3])  # while scoring, while verifying, while recovering
def test_a_model_is_as_it_was_when_pruning_breaks_off(marked, processor, training, stop):
    before = everything(marked)
    taken = 0

    def breaks(start):
        nonlocal taken
        for batch in training.batches(start):
            if taken == stop:
                raise KeyError("broken")
            taken += 1
            yield batch

    broken = replace(training, batches=breaks, recorded=breaks)
    config = replace(LEAN, method="taylor", recovery=replace(LEAN.recovery, refit=False))
    with pytest.raises(KeyError, match="broken"):
        prune_model(marked, processor, config=config, training=broken)
    assert_unchanged(marked, before)


@pytest.mark.once
def test_a_model_without_anything_to_train_is_refused_unless_nothing_is_trained(model, processor, training):
    model.requires_grad_(False)
    with pytest.raises(UserError, match="frozen"):
        prune_model(model, processor, config=LEAN, training=training)
    config = replace(LEAN, method="magnitude", recovery=replace(LEAN.recovery, steps=0))
    assert prune_model(model, processor, config=config, training=training).result.plan.changes


@pytest.mark.once
def test_in_place_the_model_is_the_teacher(model, processor, training):
    small = prune_model(model, processor, config=LEAN, training=training, in_place=True).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32, torch.bfloat16}
    assert {parameter.dtype for parameter in small.parameters()} == {torch.float32}


def test_scores_refit_and_verification_leave_models_as_they_were(marked, anatomy, processor, padded):
    batch = Batch(padded, None, (), (), 3.0)
    small = cut(marked, random_plan(anatomy, 3, skip=0.0))
    before, beside = everything(marked), everything(small)

    def loss(_):
        logits = marked(**padded).logits
        return logits[valid_frames(marked, padded, logits)].square().mean()

    taylor_scores(marked, anatomy, [batch], loss)
    obs_scores(marked, anatomy.groups, lambda: [batch], loss)
    activation_scores(marked, anatomy.groups, [batch])
    verify_cutting(marked, processor, plans=1)
    equality(marked, small, GateValues.open(anatomy), padded)
    refit(copy.deepcopy(small), marked, [batch], loss=loss)
    assert_unchanged(marked, before)
    assert_unchanged(small, beside)

    def broken(_):
        loss(_)
        raise KeyError("broken")

    for call in (
        lambda: taylor_scores(marked, anatomy, [batch], broken),
        lambda: obs_scores(marked, anatomy.groups, lambda: [batch], broken),
        lambda: refit(small, marked, [batch], loss=broken),
    ):
        with pytest.raises(KeyError, match="broken"):
            call()
    assert_unchanged(marked, before)
    assert_unchanged(small, beside)


def test_a_frozen_copy_shares_memory_and_nothing_else(marked):
    before = everything(marked)
    frozen = frozen_copy(marked)
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    pairs = list(zip(frozen.parameters(), marked.parameters(), strict=True))
    assert all(mine.data_ptr() == theirs.data_ptr() for mine, theirs in pairs)
    frozen.to(torch.bfloat16)
    frozen.config.vocab_size = 0
    assert_unchanged(marked, before)
