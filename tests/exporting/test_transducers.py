"""Exported transducers: graphs and texts are the model's, also where the blank is not the last label."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_asr
import pytest
import sherpa_onnx
import torch
from helpers.families import FAMILIES, RNNT, random_plan, shaken, talkative

import trimbre
from trimbre.config import RUNTIMES
from trimbre.errors import OptionError
from trimbre.evaluation.bootstrap import word_errors
from trimbre.exporting.card import card
from trimbre.exporting.int8 import quantise
from trimbre.exporting.onnx import check_graph, distances, write_graph
from trimbre.exporting.runtime import load_exported
from trimbre.exporting.targets import layout_for
from trimbre.exporting.transducer import Joiner, Prediction
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcriber
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.inputs import features_of
from trimbre.pruning.surgery import cut

pytestmark = pytest.mark.slow

KINDS = {"TDT": FAMILIES["transducer, TDT"], "RNN-T": RNNT}
NOISE = np.random.default_rng(0)
CLIPS = [0.1 * NOISE.standard_normal(samples).astype(np.float32) for samples in (16_000, 32_000, 80_000)]


def small(family):
    """A cut model; all kinds have the same encoder."""
    torch.manual_seed(0)
    first, model, processor = shaken(KINDS["TDT"].build()), shaken(family.build()), family.processor()
    model.encoder, model.encoder_projector = first.encoder, first.encoder_projector
    model = cut(model, random_plan(anatomy_of(model), 1)).eval()
    talkative(model, processor)
    return model, processor


@pytest.fixture(scope="module", params=KINDS)
def recogniser(request):
    return small(KINDS[request.param])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The TDT for sherpa-onnx, by the way that users go."""
    out = tmp_path_factory.mktemp("exported") / "sherpa"
    found = trimbre.export(*small(KINDS["TDT"]), to="sherpa-onnx", out=out)
    assert found["equal_to_model_within"] < 1e-5
    return out


def written(to, recogniser, exported, out):
    """What is exported to `to`, with the graph of the encoder that both kinds share, which takes long to make."""
    model, processor = recogniser
    layout = layout_for(to, model, processor)
    out.mkdir()
    processor.save_pretrained(out)
    encoder = onnx.load(exported / "encoder.onnx")
    onnx.helper.set_model_props(encoder, dict(layout.graphs[0].metadata))
    onnx.save(encoder, out / f"{layout.graphs[0].name}.onnx")
    for graph in layout.graphs[1:]:
        made = out.parent / f"{graph.name}.onnx"  # onnx-asr and ONNX Runtime take the same
        assert (check_graph(graph, made) if made.exists() else write_graph(model, graph, made)) < 1e-5
        shutil.copy(made, out)
    for name, text in layout.files.items():
        (out / name).write_text(text)
    files = {graph.name: f"{graph.name}.onnx" for graph in layout.graphs}
    described = json.loads((exported / "export.json").read_text()) | layout.described | {"to": to, "files": files}
    (out / "export.json").write_text(json.dumps(described))
    (out / "README.md").write_text(card(described))
    return out


@pytest.fixture(scope="module")
def places(recogniser, exported, tmp_path_factory):
    """Runtime -> the directory that is exported to it."""
    place = tmp_path_factory.mktemp("places")
    return {to: written(to, recogniser, exported, place / to) for to in RUNTIMES}


@pytest.fixture(scope="module")
def expected(recogniser):
    texts = texts_of(*recogniser)
    assert len({*texts}) == len(CLIPS)
    assert sum(map(len, texts)) > 10
    return texts


def texts_of(model, processor):
    return [greedy(model, features_of([clip], processor), processor)[0] for clip in CLIPS]


def test_both_kinds_have_the_encoder_of_the_graph(recogniser, exported):
    model, processor = recogniser
    layout = layout_for("sherpa-onnx", model, processor)
    assert check_graph(layout.graphs[0], exported / "encoder.onnx") < 1e-5


@pytest.mark.parametrize("to", RUNTIMES)
def test_exported_texts_are_the_models_alone_in_a_batch_and_in_chunks(to, recogniser, places, expected):
    model, processor = recogniser
    loaded = load_exported(places[to])
    assert texts_of(*loaded) == expected
    assert greedy(loaded.model, features_of(CLIPS, processor), processor) == expected
    chunks = {"chunk_seconds": 2.0, "overlap_seconds": 1.0}
    audio = np.concatenate(CLIPS)
    assert transcriber(*loaded, **chunks)(audio) == transcriber(model, processor, **chunks)(audio)
    assert layout_for(to, model, processor).first_gap(loaded.model, features_of(CLIPS[:1], processor)) is None


def test_what_a_user_exports_is_the_same(exported):
    assert texts_of(*load_exported(exported)) == texts_of(*small(KINDS["TDT"]))


def letters(texts):
    return [text.replace(" ", "") for text in texts]


def test_onnx_asr_writes_what_the_model_does(places, expected):
    place = places["onnx-asr"]
    runtime = onnx_asr.load_model(json.loads((place / "config.json").read_text())["model_type"], place)
    assert letters(runtime.recognize(CLIPS)) == letters(expected)


def test_sherpa_onnx_writes_nearly_what_the_model_does_with_its_own_features(places, expected):
    names = ("encoder.onnx", "decoder.onnx", "joiner.onnx", "tokens.txt")
    files = [str(places["sherpa-onnx"] / name) for name in names]
    recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(*files, feature_dim=80, model_type="nemo_transducer")
    found = []
    for clip in CLIPS:
        stream = recognizer.create_stream()
        stream.accept_waveform(16_000, np.append(np.zeros(80, dtype=np.float32), clip))
        recognizer.decode_stream(stream)
        found.append(stream.result.text)
    spaced = [[" ".join(text) for text in letters(texts)] for texts in (expected, found)]
    assert word_errors(*spaced).rate < 0.4  # of letters: a random model is sensitive


@pytest.mark.parametrize("to", RUNTIMES)
def test_the_readme_of_an_export_runs(to, places, expected, monkeypatch):
    monkeypatch.chdir(places[to])
    texts = []
    for block in re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL):
        names = {"samples": CLIPS[1]}
        exec(block, names)
        texts.append(names["text"])
    assert texts[1] == expected[1]
    if to == "sherpa-onnx":
        assert texts[0]
    else:
        assert letters(texts[:1]) == letters(expected[1:2])


@pytest.mark.parametrize("to", ["onnx-asr", "sherpa-onnx"])
def test_int8_is_for_all_products_of_prediction_and_joint_networks(to, recogniser, places, tmp_path):
    for graph in layout_for(to, *recogniser).graphs[1:]:
        path = tmp_path / f"{graph.name}.onnx"
        quantise(places[to] / path.name, path)
        stored = {one.name: one for one in onnx.load(path).graph.initializer if len(one.dims) == 2}
        floats = [name for name, one in stored.items() if one.data_type == onnx.TensorProto.FLOAT]
        assert all(name.endswith("embedding.weight") for name in floats)  # which is looked up
        assert len(stored) > len(floats)
        assert max(distances(graph, path)) < 0.05


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
