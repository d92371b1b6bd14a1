"""Pruning from end to end on tiny models: the target is met, nothing is lost on the way, and a stop is no harm."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from helpers.runs import QUICK, SMALL, assert_equal_weights, pruned, weights
from lhotse import CutSet
from lhotse.utils import fastcopy

import trimbre
from trimbre.config import (
    AugmentConfig,
    DistillationConfig,
)
from trimbre.data.cuts import read_cuts, write_cuts
from trimbre.errors import UserError
from trimbre.models.checkpoint import load_plan, save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import load
from trimbre.pruning import pipeline as pruning
from trimbre.pruning.scores import obs
from trimbre.report.model_card import model_card
from trimbre.runs import prune as orchestration

pytestmark = pytest.mark.once


@pytest.fixture
def teacher(model, processor, tmp_path):
    return str(save(model, processor, tmp_path / "teacher"))


@pytest.mark.parametrize("budget", ["params", "macs", "both"])
def test_the_target_is_met_and_all_is_told(teacher, noise_corpus, tmp_path, budget):
    options = replace(QUICK, remove=0.5, budget=budget)
    report = pruned(teacher, noise_corpus, tmp_path / "half", options, dev=str(noise_corpus))
    asked = [report["removed"][name]["blocks"] for name in (("params", "macs") if budget == "both" else (budget,))]
    assert (report["missed"] is None) == all(abs(share - 0.5) <= 0.005 for share in asked)
    # Twelve heads are too few for both budgets to meet in half a point; one budget always can.
    assert asked == pytest.approx([0.5] * len(asked), abs=0.01 if budget == "both" else 0.005)
    small = load(tmp_path / "half").model
    dense = load(teacher).model
    blocks = [
        sum(p.numel() for name, p in one.named_parameters() if name.startswith(anatomy_of(one).scopes["blocks"]))
        for one in (small, dense)
    ]
    assert 1 - blocks[0] / blocks[1] == pytest.approx(report["removed"]["params"]["blocks"])
    assert report["cut_equals_gated_within"] <= 1e-5
    assert json.loads((tmp_path / "half/prune.json").read_text()) == json.loads(json.dumps(report, default=str))
    card = (tmp_path / "half/README.md").read_text()
    assert f"{report['removed']['params']['model']:.1%}" in card
    assert report["evaluation"]["sets"]["dev"]["comparison"]["sentence"] in card
    assert "(method `l0`), a least-squares refit of what stayed and distillation from the unpruned model." in card
    assert "What to cut was learned for 6 steps and the cut model was trained on for 4 steps, on" in card
    untrained = report | {"stages": {}, "options": report["options"] | {"method": "taylor"}}
    assert "(method `taylor`), a least-squares refit of what stayed. The licence" in model_card(untrained)
    assert "Nothing was trained." in model_card(untrained)
    assert not (tmp_path / "half.run").exists()


def test_sets_that_cannot_be_judged_by_are_refused_before_anything_is_learned(
    teacher, noise_corpus, tmp_path, monkeypatch
):
    monkeypatch.setattr(orchestration, "prune_model", lambda *given, **more: pytest.fail("it is learning"))
    noise = str(noise_corpus)
    foreign = CutSet.from_cuts(
        fastcopy(cut, supervisions=[fastcopy(cut.supervisions[0], text="щука")]) for cut in read_cuts(noise)
    )
    (tmp_path / "foreign").mkdir()
    write_cuts(foreign, tmp_path / "foreign")
    for watch, complaint in (
        ({"dev": noise}, "can't be called 'dev'"),
        ({"pike": str(tmp_path / "foreign")}, r"transcripts of --watch pike=.*can't be spelled"),
    ):
        with pytest.raises(UserError, match=complaint):
            pruned(teacher, noise_corpus, tmp_path / "half", dev=noise, watch=watch, allow_outside=True)
    assert not (tmp_path / "half.run").exists()


def test_the_teacher_stays_as_it_was(teacher, noise_corpus, tmp_path):
    before = copy.deepcopy(weights(teacher))
    pruned(teacher, noise_corpus, tmp_path / "half")
    after = weights(teacher)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_seed_repeats_itself_and_another_does_not(teacher, noise_corpus, tmp_path):
    pruned(teacher, noise_corpus, tmp_path / "one")
    pruned(teacher, noise_corpus, tmp_path / "two")
    assert_equal_weights(tmp_path / "one", tmp_path / "two")
    assert load_plan(tmp_path / "one") == load_plan(tmp_path / "two")
    pruned(teacher, noise_corpus, tmp_path / "three", replace(QUICK, seed=1))
    one, three = weights(tmp_path / "one"), weights(tmp_path / "three")
    assert any(value.shape != three[name].shape or not torch.equal(value, three[name]) for name, value in one.items())


@pytest.mark.parametrize("stop", [3, 6, 9])  # while learning, when learned, while recovering
def test_a_stopped_run_goes_on_to_the_same_model(teacher, noise_corpus, tmp_path, monkeypatch, stop):
    pruned(teacher, noise_corpus, tmp_path / "whole", dev=str(noise_corpus), validate_every=1)
    looks = 0
    validation_wer = orchestration.validation_wer

    def stopped(*args, **more):
        nonlocal looks
        looks += 1
        if looks == stop:
            raise KeyboardInterrupt
        return validation_wer(*args, **more)

    monkeypatch.setattr(orchestration, "validation_wer", stopped)
    with pytest.raises(KeyboardInterrupt):
        pruned(teacher, noise_corpus, tmp_path / "half", dev=str(noise_corpus), validate_every=1)
    assert not (tmp_path / "half").exists()
    monkeypatch.setattr(orchestration, "validation_wer", validation_wer)
    with pytest.raises(UserError, match="unfinished run"):
        pruned(teacher, noise_corpus, tmp_path / "half", dev=str(noise_corpus), validate_every=1)
    report = pruned(teacher, noise_corpus, tmp_path / "half", dev=str(noise_corpus), validate_every=1, resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "half")
    assert [point["step"] for point in report["stages"]["learn"]["curve"]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("low_memory", [False, True])
def test_scores_and_refit_are_computed_in_the_teacher_s_precision(
    teacher, noise_corpus, tmp_path, monkeypatch, low_memory
):
    autocast = {}

    def noting(place, name):
        usual = getattr(place, name)

        def noted(*args, **more):
            autocast[name] = torch.is_autocast_enabled("cpu")
            return usual(*args, **more)

        monkeypatch.setattr(place, name, noted)

    noting(pruning, "refit")
    noting(obs, "collect_moments")
    options = replace(QUICK, method="curvature", recovery=replace(QUICK.recovery, steps=1), low_memory=low_memory)
    pruned(teacher, noise_corpus, tmp_path / "half", options, precision="bf16")
    assert autocast == {"refit": low_memory, "collect_moments": low_memory}


@pytest.mark.parametrize("augment", [False, True])
def test_audio_is_disturbed_for_recovery_alone_and_where_that_was_asked(
    teacher, noise_corpus, tmp_path, monkeypatch, augment
):
    heard, usual = [], orchestration.training_batches

    def noting(*args, options, **more):
        heard.append(options.augment)
        return usual(*args, options=options, **more)

    monkeypatch.setattr(orchestration, "training_batches", noting)
    options = replace(QUICK, method="curvature", recovery=replace(QUICK.recovery, steps=1))
    as_it_is, otherwise = AugmentConfig.none(), AugmentConfig() if augment else AugmentConfig.none()
    pruned(teacher, noise_corpus, tmp_path / "half", options, batches=replace(SMALL, augment=otherwise))
    assert heard == [as_it_is, otherwise, as_it_is, otherwise]  # scores, the proof of the cut, the refit, recovery


def test_audio_without_transcripts_is_enough(teacher, noise_corpus, tmp_path):
    silent = tmp_path / "silent"
    silent.mkdir()
    for cut in (cuts := list(read_cuts(noise_corpus))):
        cut.supervisions = []
    write_cuts(cuts, silent)
    alone = replace(QUICK, distillation=DistillationConfig(posterior_weight=0.0, layer_weight=0.0))
    with pytest.raises(UserError, match="raise posterior_weight or layer_weight"):
        pruned(teacher, silent, tmp_path / "half", alone, allow_outside=True)
    report = pruned(teacher, silent, tmp_path / "half", allow_outside=True)
    assert report["missed"] is None
    assert report["data"]["transcribed"] == 0


def test_the_control_is_the_unpruned_model_trained_on_as_long(teacher, noise_corpus, tmp_path):
    report = pruned(teacher, noise_corpus, tmp_path / "half", replace(QUICK, control=True), dev=str(noise_corpus))
    assert report["stages"]["control"]["steps"] == 10
    assert report["compared_with"].endswith("for as many steps")
    learned, recovered = (report["stages"][name]["audio_seconds"] for name in ("learn", "recover"))
    assert report["audio_seconds"] == pytest.approx(learned + recovered)
    assert report["stages"]["control"]["audio_seconds"] == pytest.approx(learned + recovered)


def test_a_pruned_model_can_be_pruned_again(teacher, noise_corpus, tmp_path):
    pruned(teacher, noise_corpus, tmp_path / "half")
    pruned(str(tmp_path / "half"), noise_corpus, tmp_path / "quarter", replace(QUICK, remove=0.4))
    plan, small = load_plan(tmp_path / "quarter"), load(tmp_path / "quarter").model
    dense = anatomy_of(load(teacher).model)
    assert dict(plan.sizes) == dense.sizes
    left = anatomy_of(small).sizes
    assert {path: width for path, width in plan.widths.items() if width} == {p: s for p, s in left.items() if s}


def test_what_is_protected_stays_whole(teacher, noise_corpus, tmp_path):
    options = replace(QUICK, remove=0.3, budget="params", protect=("attention", "1"))
    report = pruned(teacher, noise_corpus, tmp_path / "some", options)
    for path, (now, before) in report["widths"].items():
        if ".self_attn" in path or ".1." in path:
            assert now == before
    assert report["missed"] is None


def test_a_preview_writes_nothing(teacher, noise_corpus, tmp_path):
    found = trimbre.preview(teacher, train=noise_corpus, config=replace(QUICK, batches=SMALL, precision="fp32"))
    assert found["to_remove"]["params"] == pytest.approx(0.5 * found["dense"]["params"]["blocks"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["teacher"]
    with pytest.raises(UserError, match="cannot remove"):
        pruned(teacher, noise_corpus, tmp_path / "half", replace(QUICK, remove=0.99, of="model"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["teacher"]
