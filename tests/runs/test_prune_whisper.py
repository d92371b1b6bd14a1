"""Pruning a Whisper from end to end: what was asked for leaves, the rest stays, and a stop is no harm."""

from dataclasses import replace

import pytest
import torch
from helpers.families import FAMILIES

import trimbre
from trimbre.config import AugmentConfig, BatchConfig, DistillationConfig, GateConfig, PruneConfig, RecoveryConfig
from trimbre.data.cuts import read_cuts, write_cuts
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import load
from trimbre.runs import prune as orchestration

QUICK = PruneConfig(
    remove=0.4,
    budget="params",
    of="encoder",
    method="l0",
    calibration_batches=2,
    gates=GateConfig(steps=4, spread=6.0),
    recovery=RecoveryConfig(steps=3, refit_batches=1),
    save_every=2,
    batches=BatchConfig(max_duration=4.0, augment=AugmentConfig.none()),
)


ENGLISH, MULTILINGUAL = "whisper, English", "whisper, multilingual"


@pytest.fixture(scope="session")
def family(request):
    return FAMILIES[request.param]


@pytest.fixture
def teacher(model, processor, tmp_path):
    return str(save(model, processor, tmp_path / "teacher"))


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    """Nothing is timed here: a random model writes to the last token that there is room for."""
    monkeypatch.setattr(orchestration, "times_faster", lambda *models: QUICK)


def pruned(teacher, corpus, out, options=QUICK, *, precision="fp32", validate_every=100, **more):
    options = replace(options, precision=precision, validate_every=validate_every)
    return trimbre.prune(teacher, train=str(corpus), out=out, config=options, **more).report


def weights(path):
    return load(path).model.state_dict()


@pytest.mark.parametrize("family", [MULTILINGUAL], indirect=True)
def test_a_share_of_the_encoder_leaves_and_a_stopped_run_goes_on(teacher, noise_corpus, tmp_path, monkeypatch):
    report = pruned(teacher, noise_corpus, tmp_path / "whole")
    assert report["missed"] is None
    assert report["removed"]["params"]["encoder"] == pytest.approx(0.4, abs=0.005)
    assert report["removed"]["params"]["decoder"] == 0
    assert report["cut_equals_gated_within"] <= 1e-5
    card = (tmp_path / "whole/README.md").read_text()
    assert "model = AutoModelForSpeechSeq2Seq.from_pretrained" in card
    assert "AutoModelForCTC" not in card
    dense, whole = weights(teacher), weights(tmp_path / "whole")
    decoder = [name for name in dense if not name.startswith("model.encoder.")]
    assert all(torch.equal(dense[name], whole[name]) for name in decoder)
    assert not torch.equal(dense["model.encoder.conv1.weight"], whole["model.encoder.conv1.weight"])

    looks = 0

    def stopped(*args, **more):
        nonlocal looks
        looks += 1
        if looks == 6:  # while recovering
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(orchestration, "validation_wer", stopped)
    judged = {"dev": str(noise_corpus), "validate_every": 1}
    monkeypatch.setattr(orchestration, "evaluate_sets", lambda **more: None)
    with pytest.raises(KeyboardInterrupt):
        pruned(teacher, noise_corpus, tmp_path / "half", **judged)
    pruned(teacher, noise_corpus, tmp_path / "half", resume=True, **judged)
    half = weights(tmp_path / "half")
    assert all(torch.equal(value, half[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    ("family", "method", "scope"),
    [(ENGLISH, "taylor", "model"), (MULTILINGUAL, "activation", "decoder"), (ENGLISH, "l0", "blocks")],
    indirect=["family"],
)
def test_audio_alone_is_enough_for_every_part(teacher, noise_corpus, tmp_path, method, scope):
    silent = tmp_path / "silent"
    silent.mkdir()
    for cut in (cuts := list(read_cuts(noise_corpus))):
        cut.supervisions = []
    write_cuts(cuts, silent)
    options = replace(
        QUICK, method=method, remove=0.15, budget="params", of=scope, recovery=replace(QUICK.recovery, steps=1)
    )
    report = pruned(teacher, silent, tmp_path / "half", options, allow_outside=True)
    assert report["missed"] is None
    assert report["data"]["transcribed"] == 0
    dense, half = weights(teacher), weights(tmp_path / "half")
    still = anatomy_of(load(teacher).model).untouched.get(scope, ())
    assert all(torch.equal(dense[name], half[name]) for name in dense if name.startswith(still))


@pytest.mark.parametrize("family", [ENGLISH], indirect=True)
def test_the_teacher_s_words_take_the_place_of_transcripts(teacher, noise_corpus, tmp_path, monkeypatch):
    written = []
    real = orchestration.PseudoLabeller.__call__

    def noted(self, batch):
        batch = real(self, batch)
        written.extend(batch.texts)
        return batch

    monkeypatch.setattr(orchestration.PseudoLabeller, "__call__", noted)
    options = replace(
        QUICK,
        method="random",
        recovery=replace(QUICK.recovery, steps=1),
        distillation=DistillationConfig(text="teacher"),
    )
    pruned(teacher, noise_corpus, tmp_path / "half", options)
    said = {cut.supervisions[0].text for cut in read_cuts(noise_corpus)}
    assert written
    assert not any(text in said for text in written)
    low = replace(options, distillation=DistillationConfig(), low_memory=True)
    pruned(teacher, noise_corpus, tmp_path / "low", low, precision="bf16")
