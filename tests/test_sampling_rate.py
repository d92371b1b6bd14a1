"""Models for audio at another rate than 16 kHz: every verb gives them their own, whatever a file's is."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from helpers.families import FAMILIES, at_8_khz
from helpers.runs import QUICK, SMALL
from helpers.tones import corpus_of, tone
from transformers import ParakeetFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

import trimbre
from trimbre.benchmark import bench as benching
from trimbre.benchmark.latency_tables import cache_path
from trimbre.config import AugmentConfig, BatchConfig, TrainConfig
from trimbre.costs.latency import LatencyTable, check_fits, signature_of
from trimbre.costs.macs import reference_of
from trimbre.data.audio import read_audio
from trimbre.data.augment import augment_clips
from trimbre.data.batches import evaluation_batches, training_batches
from trimbre.data.cuts import read_cuts
from trimbre.errors import UserError
from trimbre.exporting import export as exporting
from trimbre.exporting.ctc import CHECKED_SECONDS
from trimbre.exporting.export import COMPARED_SECONDS
from trimbre.exporting.runtime import load_exported
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcriber
from trimbre.models.anatomy import Anatomy
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import head_of
from trimbre.models.inputs import SHORTEST, features_of, rate_of
from trimbre.runs.timing import real_time_factors

SECONDS = 1.5
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter")  # of a Whisper, up to 8 kHz


def chirp(rate: int, seconds: float = SECONDS) -> np.ndarray:
    """A sound below 3 kHz, quiet at its ends, which is the same at every rate."""
    times = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (300 * times + 800 * times**2)
    return (0.3 * np.sin(phase) * np.sin(np.pi * times / seconds) ** 2).astype(np.float32)


@pytest.fixture
def telephone(family):
    return at_8_khz(family)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rates")
    for rate in (8000, 16_000, 44_100):
        soundfile.write(folder / f"{rate}.wav", chirp(rate), rate, subtype="FLOAT")
    return [folder / f"{rate}.wav" for rate in (8000, 16_000, 44_100)]


@pytest.fixture
def seconds_taken(monkeypatch):
    """Lengths in seconds of all that extractors are given, which raise for what is stated to be at another rate."""
    found: set[float] = set()
    monkeypatch.setattr("trimbre.models.inputs.computes", lambda extractor: False)  # transformers' own is called
    for extractor in (Wav2Vec2FeatureExtractor, ParakeetFeatureExtractor, WhisperFeatureExtractor):
        own = extractor.__call__

        def noting(self, clips, *args, own=own, **given):
            assert given["sampling_rate"] == 8000
            several = clips if isinstance(clips, list) else [clips]
            found.update(round(len(clip) / 8000, 3) for clip in several)
            return own(self, clips, *args, **given)

        monkeypatch.setattr(extractor, "__call__", noting)
    return found


def test_the_rate_is_the_extractors(processor, telephone):
    assert (rate_of(processor), rate_of(telephone)) == (16_000, 8000)


@pytest.mark.once
@pytest.mark.parametrize("stated", [None, 0, -8000, "16000", 8000.5])
def test_an_extractor_that_states_no_rate_is_refused(telephone, stated):
    telephone.feature_extractor.sampling_rate = stated
    with pytest.raises(UserError, match=r"sampling_rate of .* preprocessor_config\.json"):
        features_of([np.zeros(8000, dtype=np.float32)], telephone)


def test_features_are_those_of_transformers_at_the_models_rate(telephone, files):
    padding = "max_length" if hasattr(telephone.feature_extractor, "chunk_length") else True
    loud = chirp(8000) + 0.01 * np.random.default_rng(0).standard_normal(12_000).astype(np.float32)
    expected = telephone.feature_extractor([loud], sampling_rate=8000, padding=padding, return_tensors="pt")
    for file in files:
        clip = read_audio(file, rate_of(telephone))
        assert len(clip) == 12_000
        np.testing.assert_allclose(clip[100:-100], chirp(8000)[100:-100], atol=1e-3)
    for name, value in features_of([loud], telephone).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=2e-4)


def test_texts_are_those_of_audio_at_the_models_rate(model, telephone, files, tmp_path, seconds_taken):
    expected = greedy(model, features_of([chirp(8000)], telephone), telephone)
    assert [one.text for one in trimbre.transcribe(model, telephone, files=files[:1])] == expected
    path = save(model, telephone, tmp_path / "model")  # the rate is kept with the model
    assert [one.text for one in trimbre.transcribe(str(path), files=files[:1])] == expected
    seconds_taken.clear()
    assert [one.seconds for one in trimbre.transcribe(model, telephone, files=files)] == [SECONDS] * 3
    assert seconds_taken <= {SECONDS, 10, 20}


def test_batches_are_of_audio_at_the_models_rate(telephone, tmp_path, seconds_taken):
    cuts = read_cuts(corpus_of(tmp_path, [chirp(16_000)], ["a"]))
    options = BatchConfig(max_duration=3.0, buckets=1, augment=AugmentConfig.none())
    batches = [
        next(training_batches(cuts, processor=telephone, options=options, seed=0)),
        *evaluation_batches(cuts, processor=telephone),
    ]
    assert seconds_taken == {SECONDS}
    for batch in batches:
        assert batch.seconds == pytest.approx(SECONDS)


@pytest.mark.once
def test_pieces_of_a_long_recording_are_of_the_stated_seconds(model, telephone):
    found = transcriber(model, telephone, chunk_seconds=4.0, overlap_seconds=1.0)
    assert found.rate == 8000
    assert found.longest == pytest.approx(4.0 * 8000, abs=1280)
    assert head_of(model).samples_per_frame(model, telephone) == 1280


def test_macs_are_of_a_second_at_the_models_rate(model, processor, telephone):
    name = telephone.feature_extractor.model_input_names[0]
    here, there = (reference_of(model, one).inputs[name].numel() for one in (telephone, processor))
    windows = hasattr(telephone.feature_extractor, "chunk_length")  # a window has as many frames at either rate
    assert here / there == pytest.approx(1 if windows else 0.5, rel=0.01)


@pytest.mark.once
def test_a_latency_table_is_of_one_rate(model, anatomy: Anatomy):
    assert signature_of(model, anatomy, 8000) != signature_of(model, anatomy, 16_000) == signature_of(model, anatomy)
    assert cache_path(model, anatomy, "onnx-fp32", 1, 8000) != cache_path(model, anatomy, "onnx-fp32", 1, 16_000)
    table = LatencyTable(
        "it", signature_of(model, anatomy, 8000), "onnx-fp32", 1, {}, {}, 10.0, 0.1, {"x": ((1, 0.1),)}, 0.0
    )
    with pytest.raises(UserError, match="sampling rate"):
        check_fits(table, model, anatomy, "table.json", 16_000)


@pytest.mark.parametrize("rate", [8000, 16_000])
def test_augmentation_is_by_the_rate(rate):
    never = {"speed": 0.0, "room": 0.0, "noise": 0.0, "telephone": 0.0, "time_masks": 0, "mel_masks": 0}
    clip = tone(1000, 1.0, rate) + tone(150, 1.0, rate) + tone(3700, 1.0, rate)
    (limited,) = augment_clips([clip], AugmentConfig(**never | {"telephone": 1.0}), np.random.default_rng(0), rate)
    np.testing.assert_allclose(limited[200:-200], tone(1000, 1.0, rate)[200:-200], atol=1e-3)
    (played,) = augment_clips([clip], AugmentConfig(**never | {"speed": 1.0}), np.random.default_rng(0), rate)
    assert len(played) / rate == pytest.approx(len(clip) / rate, rel=0.13)


PIECES = (10, 20)
"""Seconds of silence by which frames are counted."""


@pytest.fixture
def taken(seconds_taken):
    """Checks that all audio so far was as long as the clips, or as the noise and silence of some measurements."""

    def check(*more: float) -> None:
        assert SECONDS in seconds_taken
        assert seconds_taken <= {SECONDS, *more}, "audio at another rate"
        seconds_taken.clear()

    return check


@pytest.fixture
def for_telephones(tmp_path):
    """A model for 8 kHz and a corpus at 16 kHz."""
    torch.manual_seed(0)
    one = FAMILIES["wav2vec2-conformer, relative"]
    data = corpus_of(tmp_path / "data", [chirp(16_000)] * 6, ["a", "bad", "cab"] * 2)
    return str(save(one.build().eval(), at_8_khz(one), tmp_path / "model")), str(data)


@pytest.mark.once
def test_recognition_and_its_timing_are_at_the_models_rate(for_telephones, taken):
    path, data = for_telephones
    trimbre.evaluate(path, data=data)
    taken(*PIECES)
    list(trimbre.transcribe(path, files=sorted(Path(data, "audio").glob("*.flac"))))
    taken(*PIECES)
    found = real_time_factors({"one": path}, data=data, clips=2)
    assert found["recording"].audio_seconds == pytest.approx(2 * SECONDS)
    taken(*PIECES, 2 * SECONDS)


@pytest.mark.once
@pytest.mark.slow
def test_pruning_is_at_the_models_rate(for_telephones, taken):
    path, data = for_telephones
    config = replace(QUICK, method="magnitude", recovery=replace(QUICK.recovery, steps=1), batches=SMALL)
    trimbre.prune(path, train=data, dev=data, config=config)
    taken(*PIECES, 4)


@pytest.mark.once
@pytest.mark.slow
def test_exports_are_at_the_models_rate(for_telephones, taken, tmp_path):
    path, data = for_telephones
    out = tmp_path / "exported"
    trimbre.export(path, to="onnx", out=out, data=data)
    traced, checked = (1.4, 2.6), {length for batch in (*CHECKED_SECONDS, COMPARED_SECONDS) for length in batch}
    taken(*PIECES, *traced, *checked, SHORTEST, 1.0)
    assert transcriber(*load_exported(out)).rate == 8000
    assert '"sampling_rate": 8000' in (out / "export.json").read_text()
    assert "mono audio at 8000 Hz" in (out / "README.md").read_text()


@pytest.mark.once
def test_int8_is_calibrated_at_the_models_rate(for_telephones, taken):
    path, data = for_telephones
    layout = SimpleNamespace(feed=lambda inputs: inputs)
    batches = list(exporting._batches(read_cuts(data), trimbre.load(path), layout))
    assert {batch["input_values"].shape for batch in batches} == {(1, 12_000)}
    taken()


@pytest.mark.once
def test_benchmarks_are_at_the_models_rate(for_telephones, taken, monkeypatch):
    monkeypatch.setattr(benching, "_loading", benching._loading_here)
    monkeypatch.setattr(benching, "SECONDS", (SECONDS,))
    trimbre.bench(for_telephones[0], runtimes=("torch-fp32",), threads=(1,), repeats=1)
    taken(*PIECES)


@pytest.mark.once
def test_training_goes_on_at_the_models_rate(tmp_path, seconds_taken, monkeypatch):
    monkeypatch.setattr(
        "trimbre.models.inputs.computes", lambda extractor: False
    )  # so that transformers' own is called
    data = str(corpus_of(tmp_path / "data", [chirp(16_000)] * 4, ["a", "bad"] * 2))
    batches = BatchConfig(max_duration=6, buckets=1, augment=AugmentConfig.none())
    config = TrainConfig(steps=2, warmup=1, short_steps=0, validate_every=1, batches=batches)
    telephone = at_8_khz(FAMILIES["parakeet"])
    torch.manual_seed(0)
    trimbre.train(FAMILIES["parakeet"].build(), telephone, train=data, dev=data, out=tmp_path / "out", config=config)
    assert seconds_taken == {SECONDS, 10, 20}
    assert rate_of(trimbre.load(tmp_path / "out").processor) == 8000


@pytest.mark.once
def test_runtimes_with_features_of_their_own_are_refused_by_the_rate(tmp_path):
    for family, target in (("parakeet", "sherpa-onnx"), ("parakeet", "onnx-asr"), ("whisper, English", "onnx-asr")):
        with pytest.raises(UserError, match="sampling_rate 16000 and the model's 8000: export to onnx"):
            trimbre.export(FAMILIES[family].build().eval(), at_8_khz(FAMILIES[family]), to=target, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
