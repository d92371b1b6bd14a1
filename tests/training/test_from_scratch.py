"""Training from nothing: out comes an ordinary recogniser with a vocabulary of its own, and a stop is no harm."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.runs import Passes, assert_equal_weights
from transformers import AutoModelForCTC, AutoProcessor, ParakeetForCTC, pipeline

import trimbre
from trimbre.config import BatchConfig, TrainConfig
from trimbre.data.audio import load_cut
from trimbre.data.cuts import read_cuts
from trimbre.errors import UserError
from trimbre.inference.greedy import greedy
from trimbre.models.inputs import features_of
from trimbre.models.loading import load
from trimbre.training.from_scratch import Average
from trimbre.training.loop import cosine

QUICK = TrainConfig(
    steps=6,
    warmup=2,
    short_steps=2,
    short_seconds=1.2,
    save_every=2,
    validate_every=2,
    precision="fp32",
    batches=BatchConfig(max_duration=6.0, buckets=2),
)


@pytest.fixture
def config(tmp_path):
    encoder = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "subsampling_conv_channels": 8,
        "subsampling_factor": 4,
        "num_mel_bins": 40,
        "layerdrop": 0.0,
        "dropout": 0.1,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "parakeet_ctc", "vocab_size": 24, "encoder_config": encoder}))
    return str(path)


def trained(config, corpus, out, options=QUICK, *, dev=None, **more):
    dev = corpus if dev is None else dev
    return trimbre.train(config, train=str(corpus), dev=dev, out=out, config=options, **more).report


def test_what_is_trained_is_an_ordinary_recogniser(config, noise_corpus, tmp_path):
    report = trained(config, noise_corpus, tmp_path / "mine", half=True)
    assert [point["step"] for point in report["curve"]] == [2, 4, 6]
    assert report["audio_seconds"] > 0
    model, processor = load(tmp_path / "mine")
    assert model.dtype == torch.float32
    theirs = AutoModelForCTC.from_pretrained(tmp_path / "mine")
    assert type(theirs).__module__.startswith("transformers.")
    assert theirs.dtype == torch.float32
    with torch.no_grad():  # an untrained head writes only blanks
        for one in (model, theirs):
            one.ctc_head.bias[model.config.pad_token_id] -= 10
    recognise = pipeline(
        "automatic-speech-recognition",
        model=theirs,
        tokenizer=AutoProcessor.from_pretrained(tmp_path / "mine").tokenizer,
        feature_extractor=processor.feature_extractor,
    )
    for cut in list(read_cuts(noise_corpus))[:3]:
        clip = load_cut(cut)
        inputs = features_of([clip], processor)
        ours = greedy(model, inputs, processor)[0]
        assert ours
        assert ours == recognise(clip)["text"] == processor.decode(theirs.generate(**inputs)[0])


def test_the_same_seed_and_a_stop_change_nothing(config, noise_corpus, tmp_path):
    dev = Passes(noise_corpus)
    trained(config, noise_corpus, tmp_path / "whole", dev=dev.cuts)
    dev = Passes(noise_corpus, interrupted=round(0.6 * dev.count))
    with pytest.raises(KeyboardInterrupt):
        trained(config, noise_corpus, tmp_path / "mine", dev=dev.cuts)
    trained(config, noise_corpus, tmp_path / "mine", dev=dev.cuts, resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "mine")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_validation_runs_in_the_precision_of_the_run(config, noise_corpus, tmp_path, precision):
    seen = set()

    def note(module, inputs):
        if isinstance(module, ParakeetForCTC):
            seen.add((module.training, torch.is_autocast_enabled("cpu")))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        trained(config, noise_corpus, tmp_path / "mine", replace(QUICK, precision=precision))
    finally:
        hook.remove()
    assert seen == {(training, precision == "bf16") for training in (True, False)}


def test_training_goes_on_from_a_checkpoint(config, noise_corpus, tmp_path):
    trained(config, noise_corpus, tmp_path / "mine")
    before = load(tmp_path / "mine").model.state_dict()
    trained(str(tmp_path / "mine"), noise_corpus, tmp_path / "on", replace(QUICK, rate=1e-3, average=0.0))
    after = load(tmp_path / "on").model.state_dict()
    (earlier,) = json.loads((tmp_path / "on/train.json").read_text())["earlier"]
    assert earlier["audio_seconds"] == json.loads((tmp_path / "mine/train.json").read_text())["audio_seconds"]
    assert before.keys() == after.keys()
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


def test_a_vocabulary_can_be_learned_anew(config, noise_corpus, tmp_path):
    trained(config, noise_corpus, tmp_path / "letters", replace(QUICK, vocab_size=2))
    still = replace(QUICK, steps=1, rate=1e-12, average=0.0, vocab_size=40)
    trained(str(tmp_path / "letters"), noise_corpus, tmp_path / "words", still)
    (before, old), (after, new) = (load(tmp_path / name) for name in ("letters", "words"))
    assert len(new.tokenizer) == after.config.vocab_size == after.ctc_head.out_channels > before.config.vocab_size
    assert after.generation_config.pad_token_id == after.config.pad_token_id == new.tokenizer.pad_token_id
    blanks = [m.ctc_head.weight[m.config.pad_token_id] for m in (before, after)]
    assert torch.allclose(*blanks, atol=1e-6)
    text = next(iter(read_cuts(noise_corpus))).supervisions[0].text
    assert len(new.tokenizer(text).input_ids) < len(old.tokenizer(text).input_ids)
    kept = {n: v for n, v in before.state_dict().items() if n.startswith("encoder.") and n.endswith("weight")}
    assert all(torch.allclose(v, after.state_dict()[n], atol=1e-6) for n, v in kept.items())


def test_a_first_stage_is_the_schedule_up_to_there(config, noise_corpus, tmp_path):
    every = replace(QUICK, average=0.0, validate_every=1)
    whole = trained(config, noise_corpus, tmp_path / "whole", every)
    first = trained(config, noise_corpus, tmp_path / "first", replace(every, stop_at=3))
    assert first["steps"] == 3
    assert first["curve"] == whole["curve"][:3]


@pytest.mark.parametrize("text", ["no json", "[]", '{"model_type": "whisper"}', '{"model_type": "parakeet_ctc"}'])
def test_a_config_that_is_none_is_refused(tmp_path, noise_corpus, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match=str(path)):
        trained(str(path), noise_corpus, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_the_running_average_forgets_as_fast_as_asked():
    model = torch.nn.Linear(2, 2)
    average = Average(model, 0.5)
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    for step in (100, 101):
        average(step)
    assert torch.allclose(average.model.weight, start + 0.75)
    average(0)  # the first steps replace it: what stood there was random
    assert torch.allclose(average.model.weight, model.weight)


def test_the_rate_rises_then_falls_along_half_a_cosine():
    factor = cosine(steps=100, warmup=10)
    rates = np.array([factor(step) for step in range(101)])
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[55] == pytest.approx(0.01 + 0.99 * 0.5, abs=1e-9)
    assert rates[100] == pytest.approx(0.01)
    assert (np.diff(rates[10:]) < 0).all()
