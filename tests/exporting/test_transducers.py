"""Exported transducers: graphs and texts are the model's, also where the blank is not the last label."""

import json

import numpy as np
import onnx_asr
import pytest
import sherpa_onnx
import torch
from helpers.families import FAMILIES, RNNT, random_plan, shaken, talkative

import trimbre
from trimbre.errors import OptionError
from trimbre.exporting.runtime import load_exported
from trimbre.exporting.targets import layout_for
from trimbre.exporting.transducer import Joiner, Prediction
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcriber
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.inputs import features_of
from trimbre.pruning.surgery import cut

pytestmark = pytest.mark.slow

NOISE = np.random.default_rng(0)
CLIPS = [0.1 * NOISE.standard_normal(samples).astype(np.float32) for samples in (9_000, 24_000, 48_000)]


def small(family):
    torch.manual_seed(0)
    model, processor = shaken(family.build()), family.processor()
    talkative(model, processor)
    return cut(model, random_plan(anatomy_of(model), 1)).eval(), processor


def texts_of(model, processor):
    return [greedy(model, features_of([clip], processor), processor)[0] for clip in CLIPS]


def test_a_tdt_runs_in_onnx_asr_and_as_a_model(tmp_path):
    model, processor = small(FAMILIES["transducer, TDT"])
    found = trimbre.export(model, processor, to="onnx-asr", out=tmp_path / "asr")
    assert found["equal_to_model_within"] < 1e-5
    exported = load_exported(tmp_path / "asr")
    expected = texts_of(model, processor)
    assert texts_of(*exported) == expected
    assert greedy(exported.model, features_of(CLIPS, processor), processor) == expected
    chunks = {"chunk_seconds": 2.0, "overlap_seconds": 1.0}
    audio = np.concatenate(CLIPS)
    assert transcriber(*exported, **chunks)(audio) == transcriber(model, processor, **chunks)(audio)
    config = json.loads((tmp_path / "asr" / "config.json").read_text())
    runtime = onnx_asr.load_model(config["model_type"], tmp_path / "asr")
    assert [text.replace(" ", "") for text in runtime.recognize(CLIPS)] == [one.replace(" ", "") for one in expected]


def test_an_rnnt_runs_in_sherpa_onnx_and_as_a_model(tmp_path):
    model, processor = small(RNNT)
    trimbre.export(model, processor, to="sherpa-onnx", out=tmp_path / "sherpa")
    exported = load_exported(tmp_path / "sherpa")
    assert texts_of(*exported) == texts_of(model, processor)
    files = [str(tmp_path / "sherpa" / name) for name in ("encoder.onnx", "decoder.onnx", "joiner.onnx", "tokens.txt")]
    recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(*files, feature_dim=80, model_type="nemo_transducer")
    stream = recognizer.create_stream()
    stream.accept_waveform(16_000, np.append(np.zeros(80, dtype=np.float32), CLIPS[2]))
    recognizer.decode_stream(stream)
    assert stream.result.text


@torch.no_grad()
def test_the_prediction_and_joint_networks_are_the_models_with_the_blank_last():
    model, _ = small(FAMILIES["transducer, TDT"])
    columns = (*(label for label in range(31) if label != 4), 4)
    tokens, state = torch.tensor([30, 4, 0, 29]), [torch.zeros(2, 1, 16)] * 2  # columns: the blank, labels 5, 0 and 30
    written = Prediction(model, columns)
    texts = []
    for token in tokens:
        text, _, *state = written(token.reshape(1, 1).int(), torch.ones(1, dtype=torch.int32), *state)
        texts.append(text)
    expected = model.decoder(torch.tensor([[4, 5, 0, 30]])).transpose(1, 2)
    assert torch.allclose(torch.cat(texts, -1), expected, atol=1e-6)
    audio = torch.randn(1, 16, 1)
    logits = model.joint(expected[:, :, :1].transpose(1, 2), audio.transpose(1, 2))[0, 0]
    found = Joiner(model, columns)(audio, texts[0])[0, 0, 0]
    assert torch.allclose(found, torch.cat([logits[:4], logits[5:31], logits[4:5], logits[31:]]), atol=1e-5)


def test_durations_that_are_not_counted_from_zero_are_for_onnx_alone():
    model, processor = small(FAMILIES["transducer, TDT"])
    model.config.durations = [0, 1, 2, 4, 8]
    with pytest.raises(OptionError, match=r"the model's are \[0, 1, 2, 4, 8\]: export to onnx"):
        layout_for("onnx-asr", model, processor)
    assert layout_for("onnx", model, processor).described["durations"] == [0, 1, 2, 4, 8]
    assert head_of(model).durations(model.config) == (0, 1, 2, 4, 8)
