"""Exported models in the runtimes that users deploy to, unmodified: the shipped recogniser on a real recording."""

import json
import re

import numpy as np
import onnx
import onnx_asr
import pytest
import sherpa_onnx
import torch
from helpers.families import FAMILIES
from helpers.mini_recogniser import clips as noisy_clips
from helpers.mini_recogniser import mini_parakeet, mini_processor
from helpers.places import CLIP, MODEL, SAID

import trimbre
from trimbre.benchmark.timing import real_time_factor
from trimbre.cli import run
from trimbre.data.audio import read_audio, resample
from trimbre.data.corpus import Utterance, write_corpus
from trimbre.errors import UserError
from trimbre.evaluation.bootstrap import word_errors
from trimbre.exporting import export as exporting
from trimbre.exporting.ctc import nemo, tokens
from trimbre.exporting.int8 import quantise
from trimbre.exporting.runtime import load_exported
from trimbre.exporting.session import session
from trimbre.exporting.targets import layout_for
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcriber
from trimbre.models.checkpoint import save
from trimbre.models.inputs import features_of

HALF_HOP = np.zeros(80, dtype=np.float32)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def teacher():
    return trimbre.load(MODEL)


@pytest.fixture(scope="module")
def clips():
    """The recording as it is, louder and quieter, slower and faster, in silence and in noise."""
    clip, draw = read_audio(CLIP), np.random.default_rng(0)
    silence = np.zeros(3_000, dtype=np.float32)
    noise = draw.standard_normal(len(clip)).astype(np.float32)
    levels = [clip * np.float32(level) for level in (1.0, 0.3, 0.6, 1.3)]
    rates = [resample(clip, 16_000 * speed) for speed in (0.95, 1.04)]
    return [*levels, *rates, np.concatenate([silence, clip, silence]), clip + 0.002 * noise]


@pytest.fixture(scope="module")
def transcripts(teacher, clips):
    return [greedy(teacher.model, features_of([clip], teacher.processor), teacher.processor)[0] for clip in clips]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "one"
    write_corpus([Utterance("hold", read_audio(CLIP), SAID, None)], out, source="test", licence="CC BY-SA 3.0")
    return out


@pytest.fixture(scope="module")
def sherpa(tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "sherpa"
    trimbre.export(model=str(MODEL), to="sherpa-onnx", out=out)
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory, corpus):
    out = tmp_path_factory.mktemp("exported") / "asr"
    found = trimbre.export(model=str(MODEL), to="onnx-asr", out=out, precision="int8", data=str(corpus), tolerance=100)
    return out, found


def test_on_the_same_features_all_transcripts_are_the_same(teacher, clips, transcripts, sherpa):
    exported = load_exported(sherpa)
    alone = [greedy(exported.model, features_of([clip], exported.processor), exported.processor)[0] for clip in clips]
    assert alone == transcripts
    together = greedy(exported.model, features_of(clips, exported.processor), exported.processor)
    assert together == greedy(teacher.model, features_of(clips, teacher.processor), teacher.processor)


def test_sherpa_onnx_transcribes_alike_with_its_own_features(clips, transcripts, sherpa):
    recognizer = sherpa_onnx.OfflineRecognizer.from_nemo_ctc(str(sherpa / "model.onnx"), str(sherpa / "tokens.txt"))
    streams = []
    for clip in clips:
        stream = recognizer.create_stream()
        stream.accept_waveform(16_000, np.append(HALF_HOP, clip))
        streams.append(stream)
    recognizer.decode_streams(streams)
    assert same_words([stream.result.text for stream in streams], transcripts) >= 0.97


def test_values_on_padding_change_no_output(clips, sherpa, teacher):
    """sherpa-onnx pads batches with -23, and the first convolution sees one frame beyond the end of an utterance."""
    running = session(sherpa / "model.onnx")
    whole = features_of([clips[0]], teacher.processor)["input_features"].numpy()
    frames = whole.shape[1] - 10
    given = {"length": np.array([frames], dtype=np.int64)}
    filled = []
    for value in (0.0, -23.0, 1000.0):
        features = whole.transpose(0, 2, 1).copy()
        features[:, :, frames:] = value
        filled.append(running.run(None, given | {"audio_signal": features})[0])
    valid = frames // 4
    assert np.array_equal(filled[0][:, :valid], filled[1][:, :valid])
    assert np.array_equal(filled[0][:, :valid], filled[2][:, :valid])


def test_onnx_asr_transcribes_alike_with_its_own_features(clips, transcripts, sherpa, tmp_path):
    out = tmp_path / "asr"
    out.mkdir()
    teacher = trimbre.load(MODEL)
    layout = layout_for("onnx-asr", *teacher)
    (out / "model.onnx").write_bytes((sherpa / "model.onnx").read_bytes())  # the two runtimes take the same graph
    for name, text in layout.files.items():
        (out / name).write_text(text)
    model = onnx_asr.load_model("nemo-conformer-ctc", out)
    assert same_words([model.recognize(clip) for clip in clips], transcripts) >= 0.97
    assert same_words(model.recognize(clips), transcripts) >= 0.97


def same_words(texts, transcripts):
    return np.mean([one.split() == other.split() for one, other in zip(texts, transcripts, strict=True)])


def test_int8_is_small_runs_in_onnx_asr_and_is_measured(clips, transcripts, small):
    out, found = small
    assert found["bytes"] <= 0.3 * found["float32_bytes"]
    assert (out / "model.int8.onnx").stat().st_size == found["bytes"]
    assert not (out / "model.onnx").exists()
    assert {"fp32", "int8"} == set(found["wer"])
    model = onnx_asr.load_model("nemo-conformer-ctc", out, quantization="int8")
    assert word_errors([transcripts[0]], [model.recognize(clips[0])]).rate <= 0.2
    graph = onnx.load(out / "model.int8.onnx").graph
    floats = {weight.name for weight in graph.initializer if weight.data_type == onnx.TensorProto.FLOAT}
    large = [weight for weight in graph.initializer if weight.name in floats and np.prod(weight.dims) > 10_000]
    assert not large  # the 1x1 convolutions and the head are among what was quantised
    assert json.loads((out / "export.json").read_text())["wer"] == found["wer"]


def test_an_export_is_called_as_a_model_is(teacher, sherpa):
    audio = np.tile(read_audio(CLIP), 4)
    chunks = {"chunk_seconds": 4.0, "overlap_seconds": 1.0}
    exported = load_exported(sherpa, threads=2)
    assert transcriber(*exported, **chunks)(audio) == transcriber(*teacher, **chunks)(audio)
    timed = real_time_factor({"torch": teacher, "exported": exported}, clips=[audio[:16_000]], repeats=1)
    assert timed.factors["exported"].median > 0


def test_the_readme_of_an_export_runs(tmp_path, monkeypatch, capsys):
    save(mini_parakeet(), mini_processor(), tmp_path / "mini")
    assert run(["export", str(tmp_path / "mini"), "--to", "onnx", "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["equal_to_model_within"] <= 1e-4
    monkeypatch.chdir(tmp_path / "out")
    samples = np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    texts = []
    for block in re.findall(r"```python\n(.*?)```", (tmp_path / "out/README.md").read_text(), re.DOTALL):
        names = {"samples": samples}
        exec(block, names)
        texts.append(names["text"])
    processor = mini_processor()
    assert texts == greedy(mini_parakeet(), features_of([samples], processor), processor) * 2


def test_a_worse_int8_is_refused_with_the_figures_and_leaves_nothing(tmp_path):
    """A random model, whose outputs lie close together, writes other text in int8."""
    model, processor = mini_parakeet(), mini_processor()
    save(model, processor, tmp_path / "mini")
    spoken = noisy_clips(2.0, 3.0, 4.0)
    written = [greedy(model, features_of([clip], processor), processor)[0] for clip in spoken]
    utterances = [
        Utterance(str(n), clip, text, None) for n, (clip, text) in enumerate(zip(spoken, written, strict=True))
    ]
    write_corpus(utterances, tmp_path / "data", source="test", licence="none")
    given = {"to": "onnx", "out": tmp_path / "out", "precision": "int8", "data": str(tmp_path / "data")}
    with pytest.raises(UserError, match=r"\d % in fp32, \d.* % in int8"):
        trimbre.export(str(tmp_path / "mini"), **given)
    assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"mini", "data"}


def test_static_ranges_come_from_the_calibration_and_dynamic_ones_from_each_call(tmp_path):
    """One product with a weight: int8 is within 2 % of it, except where static ranges meet what they never saw."""
    draw = np.random.default_rng(0)
    weight = draw.standard_normal((64, 32)).astype(np.float32) * np.geomspace(0.01, 10, 32, dtype=np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "product",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 64])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 32])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "product.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path)
    seen = draw.uniform(-1, 1, (50, 64)).astype(np.float32)
    quantise(path, tmp_path / "dynamic.onnx")
    quantise(path, tmp_path / "static.onnx", calibration=[{"x": seen}])
    for name in ("dynamic", "static"):  # what overflows elsewhere shows in the file on every processor
        stored = [onnx.numpy_helper.to_array(one) for one in onnx.load(tmp_path / f"{name}.onnx").graph.initializer]
        assert max(np.abs(one.astype(int)).max() for one in stored if one.dtype == np.int8 and one.size > 32) <= 64
    for level, ranges, least, most in (
        (1, "dynamic", 0, 0.02),
        (1, "static", 0, 0.05),
        (10, "dynamic", 0, 0.02),
        (10, "static", 0.5, 1),
    ):
        (found,) = session(tmp_path / f"{ranges}.onnx").run(None, {"x": seen * np.float32(level)})
        exact = level * seen @ weight
        assert least <= np.linalg.norm(found - exact) / np.linalg.norm(exact) <= most
        if level == 1 and ranges == "dynamic":  # a scale per column: the smallest column is as exact as the largest
            assert np.linalg.norm((found - exact)[:, 0]) <= 0.02 * np.linalg.norm(exact[:, 0])


def test_the_blank_becomes_the_last_label():
    model, processor = mini_parakeet(), mini_processor()
    form = nemo("sherpa-onnx", model, processor)
    named = tokens(processor, form.columns, 0)
    assert named[-1] == "<blk>"
    assert named[0] == "<unk>"
    logits = torch.randn(1, 2, 14)
    assert torch.equal(form.expected(logits)[..., -1], logits.log_softmax(-1)[..., 0])


def test_what_a_runtime_cannot_run_is_refused_in_a_sentence(tmp_path, monkeypatch):
    family = FAMILIES["wav2vec2-conformer, rotary"]
    with pytest.raises(UserError, match="to='sherpa-onnx': it does not run a Wav2Vec2ConformerForCTC; give onnx"):
        layout_for("sherpa-onnx", family.build(), family.processor())
    with pytest.raises(UserError, match="80 or 128 mel bands and the model takes 16"):
        layout_for("onnx-asr", mini_parakeet(), mini_processor())
    given = {"model": str(MODEL), "out": tmp_path / "out"}
    with pytest.raises(UserError, match="choose one of onnx, sherpa-onnx, onnx-asr"):
        trimbre.export(to="tensorrt", **given)
    with pytest.raises(UserError, match="calibrate='x': it is for int8"):
        trimbre.export(to="onnx", calibrate="x", **given)
    with pytest.raises(UserError, match="holds no exported model"):
        load_exported(tmp_path)
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(UserError, match=r'onnxscript: pip install "trimbre\[export\]"'):
        trimbre.export(to="onnx", **given)
