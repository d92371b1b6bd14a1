"""Pruning a Whisper from end to end: what was asked for leaves, the rest stays, and a stop is no harm."""

from dataclasses import replace

import pytest
import torch
from helpers.families import FAMILIES
from helpers.runs import Passes, assert_equal_weights, weights
from lhotse.utils import fastcopy

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
    return trimbre.prune(teacher, train=corpus, out=out, config=options, **more).report


@pytest.mark.parametrize("family", [MULTILINGUAL], indirect=True)
def test_a_share_of_the_encoder_leaves_and_a_stopped_run_goes_on(teacher, noise_corpus, tmp_path):
    report = pruned(teacher, noise_corpus, tmp_path / "whole")
    assert report["missed"] is None
    assert report["removed"]["params"]["encoder"] == pytest.approx(0.4, abs=0.005)
    assert report["removed"]["params"]["decoder"] == 0
    assert report["cut_equals_gated_within"] <= 1e-5
    card = (tmp_path / "whole/README.md").read_text()
    assert "AutoModelForSpeechSeq2Seq" in card
    assert "AutoModelForCTC" not in card
    dense, whole = weights(teacher), weights(tmp_path / "whole")
    decoder = [name for name in dense if not name.startswith("model.encoder.")]
    assert all(torch.equal(dense[name], whole[name]) for name in decoder)
    assert not torch.equal(dense["model.encoder.conv1.weight"], whole["model.encoder.conv1.weight"])

    few = Passes(list(read_cuts(noise_corpus))[:2])
    pruned(teacher, noise_corpus, tmp_path / "judged", dev=few.cuts, validate_every=1)
    few = Passes(few.held, interrupted=round(0.7 * few.count))  # in recovery
    with pytest.raises(KeyboardInterrupt):
        pruned(teacher, noise_corpus, tmp_path / "half", dev=few.cuts, validate_every=1)
    pruned(teacher, noise_corpus, tmp_path / "half", dev=few.cuts, validate_every=1, resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "half")


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
def test_the_teacher_s_words_take_the_place_of_transcripts(teacher, noise_corpus, tmp_path):
    """What others wrote makes no difference where the teacher's own text is asked for."""
    cuts = list(read_cuts(noise_corpus))
    other = [fastcopy(cut, supervisions=[fastcopy(cut.supervisions[0], text="cab")]) for cut in cuts]
    config = replace(QUICK, method="random", recovery=replace(QUICK.recovery, steps=1))
    own = replace(config, distillation=DistillationConfig(text="teacher"))
    for name, given, train in (("own", own, cuts), ("other", own, other), ("transcripts", config, cuts)):
        pruned(teacher, train, tmp_path / name, given)
    assert_equal_weights(tmp_path / "own", tmp_path / "other")
    with pytest.raises(AssertionError):
        assert_equal_weights(tmp_path / "own", tmp_path / "transcripts")
    pruned(teacher, noise_corpus, tmp_path / "low", replace(config, low_memory=True), precision="bf16")
