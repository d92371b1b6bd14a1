"""The default learning rate of recovery: in proportion to the size of the weights."""

import copy

import pytest
import torch

import trimbre
from trimbre.config import BatchConfig, GateConfig, PruneConfig, RecoveryConfig
from trimbre.models.families.registry import anatomy_of
from trimbre.training.recovery import USUAL_RATE, rate_for


def projections(model):
    return [model.get_submodule(group.consumer).weight for group in anatomy_of(model).groups]


def test_weights_of_one_size_learn_at_the_usual_rate_times_that(model):
    even = copy.deepcopy(model)
    with torch.no_grad():
        for sign, weight in enumerate(projections(even)):
            weight.fill_(0.1 * (-1) ** sign)
    assert rate_for(even, None) == pytest.approx(0.1 * USUAL_RATE)


def test_three_times_the_weights_learn_three_times_as_fast(model):
    large = copy.deepcopy(model)
    with torch.no_grad():
        for weight in projections(large):
            weight.mul_(3)
    assert rate_for(large, None) == pytest.approx(3 * rate_for(model, None))


def test_a_given_rate_is_used(model):
    assert rate_for(model, 7e-4) == 7e-4


@pytest.mark.once
@pytest.mark.parametrize(("learning", "recovering"), [(None, None), (2e-4, 3e-4)])
def test_every_stage_trains_at_its_rate_and_reports_it(model, processor, noise_corpus, learning, recovering):
    usual = rate_for(model, None)
    report = trimbre.prune(
        model,
        processor,
        train=noise_corpus,
        config=PruneConfig(
            method="l0",
            control=True,
            calibration_batches=1,
            gates=GateConfig(steps=1, weight_rate=learning),
            recovery=RecoveryConfig(steps=1, refit_batches=1, rate=recovering),
            batches=BatchConfig(max_duration=6.0, buckets=2),
            precision="fp32",
        ),
    ).report
    rates = {name: stage["rate"] for name, stage in report["stages"].items()}
    recovered = recovering or usual
    assert rates == pytest.approx({"learn": learning or usual, "recover": recovered, "control": recovered})
