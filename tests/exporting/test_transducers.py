"""Exported transducers: graphs and texts are the model's, also where the blank is not the last label."""

import json
import shutil

import numpy as np
import onnx_asr
import pytest
import sherpa_onnx
import torch
from helpers.families import FAMILIES, random_plan, shaken, talkative

import trimbre
from trimbre.errors import OptionError
from trimbre.exporting.onnx import write_graph
from trimbre.exporting.runtime import load_exported
from trimbre.exporting.targets import layout_for
from trimbre.exporting.transducer import Joiner, Prediction
from trimbre.exporting.transducer_runtime import ExportedTransducer
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


@pytest.fixture(scope="module")
def tdt():
    return small(FAMILIES["transducer, TDT"])


@pytest.fixture(scope="module")
def sherpa(tdt, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "sherpa"
    found = trimbre.export(*tdt, to="sherpa-onnx", out=out)
    assert found["equal_to_model_within"] < 1e-5
    return out


def texts_of(model, processor):
    return [greedy(model, features_of([clip], processor), processor)[0] for clip in CLIPS]


def test_exported_texts_are_the_models_alone_in_a_batch_and_in_chunks(tdt, sherpa):
    model, processor = tdt
    exported, expected = load_exported(sherpa), texts_of(model, processor)
    assert texts_of(*exported) == expected
    assert greedy(exported.model, features_of(CLIPS, processor), processor) == expected
    chunks = {"chunk_seconds": 2.0, "overlap_seconds": 1.0}
    audio = np.concatenate(CLIPS)
    assert transcriber(*exported, **chunks)(audio) == transcriber(model, processor, **chunks)(audio)
    assert (
        layout_for("sherpa-onnx", model, processor).first_gap(exported.model, features_of(CLIPS[:1], processor)) is None
    )


def test_sherpa_onnx_runs_it_with_its_own_features(sherpa):
    files = [str(sherpa / name) for name in ("encoder.onnx", "decoder.onnx", "joiner.onnx", "tokens.txt")]
    recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(*files, feature_dim=80, model_type="nemo_transducer")
    stream = recognizer.create_stream()
    stream.accept_waveform(16_000, np.append(np.zeros(80, dtype=np.float32), CLIPS[2]))
    recognizer.decode_stream(stream)
    assert stream.result.text


def test_onnx_asr_writes_what_the_model_does(tdt, sherpa, tmp_path):
    model, processor = tdt
    layout = layout_for("onnx-asr", model, processor)
    shutil.copy(sherpa / "encoder.onnx", tmp_path / "encoder-model.onnx")
    assert write_graph(model, layout.graphs[1], tmp_path / "decoder_joint-model.onnx") < 1e-5
    for name, text in layout.files.items():
        (tmp_path / name).write_text(text)
    expected = texts_of(model, processor)
    files = {graph.name: f"{graph.name}.onnx" for graph in layout.graphs}
    assert texts_of(ExportedTransducer(tmp_path, layout.described | {"files": files}), processor) == expected
    runtime = onnx_asr.load_model(json.loads(layout.files["config.json"])["model_type"], tmp_path)
    assert [text.replace(" ", "") for text in runtime.recognize(CLIPS)] == [one.replace(" ", "") for one in expected]


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
