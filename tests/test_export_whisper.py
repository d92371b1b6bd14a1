"""Exported Whispers: encoder and decoder equal the model's whatever heads are left, and write the same texts."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnx_asr
import pytest
import torch
from conftest import FAMILIES, edge_plans, random_plan, shaken
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperProcessor

import trimbre
from trimbre.anatomy import anatomy_of
from trimbre.checkpoint import save
from trimbre.cli import run
from trimbre.data.corpus import Utterance, write_corpus
from trimbre.decoding import features_of, generated, greedy
from trimbre.errors import UserError
from trimbre.exporting.decoder import CHECKED_TOKENS, FIRST_WRITTEN, silence
from trimbre.exporting.graph import check_graph, distances, write_graph
from trimbre.exporting.layouts import layout_for
from trimbre.exporting.runtime import load_exported
from trimbre.exporting.whisper import Rules, silenced_by
from trimbre.surgery import cut
from trimbre.transcription import listener

NOISE = np.random.default_rng(3).standard_normal(90_000).astype(np.float32) * 0.1
CLIPS = [NOISE[:20_000], NOISE[20_000:50_000], NOISE[50_000:]]


def pruned(name, plan):
    """A family's model by a plan, which may not begin a text as it may go on."""
    torch.manual_seed(0)
    dense = shaken(FAMILIES[f"whisper, {name}"].build())
    model = cut(dense, plan(anatomy_of(dense)))
    model.generation_config.begin_suppress_tokens = [3, 11]
    return model


@pytest.fixture(scope="module")
def small():
    return pruned("multilingual", lambda anatomy: random_plan(anatomy, 5))


@pytest.fixture(scope="module")
def exported(small, tmp_path_factory):
    """The random plan's directory in int8, with the figures of both precisions."""
    folder = tmp_path_factory.mktemp("exported")
    processor = FAMILIES["whisper, multilingual"].processor()
    data = folder / "data"
    write_corpus([Utterance("a", CLIPS[0], "some words", None)], data, source="noise", licence="none")
    place = save(small, processor, folder / "small")
    for precision in ("fp32", "int8"):
        arguments = ["--precision", precision, "--data", str(data), "--tolerance", "1000"]
        assert run(["export", str(place), "--to", "onnx", "--out", str(folder / precision), *arguments]) == 0
    return folder


@pytest.mark.parametrize("plan", ["no units", "no modules", "no cross-attention units", "no decoder-attention modules"])
def test_a_pruned_decoder_and_its_graph_are_equal(plan, tmp_path):
    """In every trial: without caches, and with those that transformers itself keeps."""
    name = "English" if plan == "no units" else "multilingual"
    model, processor = pruned(name, lambda anatomy: edge_plans(anatomy)[plan]), FAMILIES[f"whisper, {name}"].processor()
    decoder, path = layout_for("onnx", model, processor).graphs[1], tmp_path / "decoder.onnx"
    assert write_graph(model, decoder, path) <= 1e-5
    graph = onnx.load(path).graph
    given = [one.name for one in graph.input]
    assert given[:3] == ["input_ids", "encoder_hidden_states", "use_cache_branch"]
    counting = [] if plan == "no cross-attention units" else ["past_key_values.0.decoder.key"]
    side = {"no cross-attention units": "decoder", "no decoder-attention modules": "encoder"}.get(plan)
    layers = range(3) if side else []
    assert given[3:] == counting + [f"past_key_values.{n}.{side}.{what}" for n in layers for what in ("key", "value")]
    if plan == "no modules":  # nothing is left but the embedding, a norm and the projection
        kinds = [node.op_type for node in graph.node]
        assert not {"Softmax", "Erf"} & set(kinds)
        assert kinds.count("MatMul") == kinds.count("LayerNormalization") == 1


def test_every_call_of_a_decoder_is_compared(small, exported):
    decoder = layout_for("onnx", small, FAMILIES["whisper, multilingual"].processor()).graphs[1]
    file = exported / "fp32/decoder_model_merged.onnx"
    assert len(list(distances(decoder, file))) == 2 * len(CHECKED_TOKENS)
    assert [bool(trial.feed["use_cache_branch"]) for trial in decoder.trials()] == [False, True] * len(CHECKED_TOKENS)
    with torch.no_grad():
        bias = small.model.decoder.layer_norm.bias
        bias += 0.01
        with pytest.raises(UserError, match="differs from the model"):
            check_graph(decoder, file)
        bias -= 0.01


def test_an_export_writes_what_the_model_writes(small, exported):
    processor = FAMILIES["whisper, multilingual"].processor()
    found = load_exported(exported / "fp32", threads=2)
    inputs = features_of(CLIPS, processor)
    texts = greedy(small, inputs, processor)
    assert len(set(texts)) > 1
    assert greedy(found.model, inputs, found.processor) == texts
    for language in ("en", "de"):
        heard = generated(small, inputs, processor, language=language)
        assert generated(found.model, inputs, processor, language=language) == heard
    assert listener(*found)(NOISE) == listener(small, processor)(NOISE)


def test_rules_are_the_models(small):
    rules = Rules.of(small)
    generation = small.generation_config
    features = features_of(CLIPS[:1], FAMILIES["whisper, multilingual"].processor())["input_features"]
    with torch.no_grad():
        made = small.generate(features, return_dict_in_generate=True, language="de", task="transcribe")["sequences"]
    assert [rules.start, rules.languages["<|de|>"], *rules.after] == made[0, : 2 + len(rules.after)].tolist()
    assert rules.never == tuple(generation.suppress_tokens)
    assert rules.not_first == (3, 11)
    assert made.shape[1] <= rules.most == 40
    english = Rules.of(FAMILIES["whisper, English"].build())
    assert (english.languages, len(english.after)) == ({}, 1)


def test_int8_is_smaller_and_measured(exported):
    found = json.loads((exported / "int8/export.json").read_text())
    assert found["files"]["decoder_model_merged"] == "decoder_model_merged.int8.onnx"
    assert set(found["wer"]) == {"fp32", "int8"}
    assert not list((exported / "int8").glob("*model.onnx"))
    graph = onnx.load(exported / "int8/decoder_model_merged.int8.onnx").graph
    large = [one for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT and np.prod(one.dims) > 1_500]
    assert not large  # the table that embeds and projects is in there once, in int8


def test_int8_embeds_tokens_as_exactly_as_it_projects(small, exported):
    """Without branches in the way the scores of both precisions differ by rounding to 8 bits alone."""
    files = [exported / "fp32/decoder_model_merged.onnx", exported / "int8/decoder_model_merged.int8.onnx"]
    decoder = layout_for("onnx", small, FAMILIES["whisper, multilingual"].processor()).graphs[1]
    exact, rounded = (max(distances(decoder, file)) for file in files)
    assert exact <= 1e-5 < 1e-3 < rounded <= 0.1


def test_the_readme_of_an_export_runs(small, exported, monkeypatch):
    processor = FAMILIES["whisper, multilingual"].processor()
    monkeypatch.chdir(exported / "fp32")
    texts = []
    for block in re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL):
        names = {"samples": CLIPS[0]}
        exec(block, names)
        texts.append(names["text"])
    assert texts == greedy(small, features_of(CLIPS[:1], processor), processor) * 2


def test_silence_lets_nothing_forbidden_be_the_likeliest():
    rules = Rules(start=0, languages={}, after=(), end=1, never=(2,), not_first=(3,), most=9)
    logits = torch.tensor([[5.0, 1.0, 9.0, 8.0]]).repeat(1, FIRST_WRITTEN + 1, 1)
    found = silence(logits, torch.arange(FIRST_WRITTEN + 1), silenced_by(rules, 4))
    assert found[0].argmax(-1).tolist() == [3] * (FIRST_WRITTEN - 1) + [0, 3]
    assert found[0, 0].tolist() == [5, 1, 1, 8]


def test_onnx_asr_writes_what_the_model_writes(tmp_path):
    """Unmodified and with features of its own: a pruned model with windows of 30 s, heard alone and in a batch."""
    family = FAMILIES["whisper, multilingual"]
    torch.manual_seed(0)
    config = family.build().config
    config.max_source_positions = 1500
    dense = shaken(WhisperForConditionalGeneration(config))
    dense.generation_config = family.build().generation_config
    dense.generation_config.begin_suppress_tokens = [3, 11]
    model = cut(dense, random_plan(anatomy_of(dense), 5))
    processor = WhisperProcessor(WhisperFeatureExtractor(), family.processor().tokenizer)
    place = str(save(model, processor, tmp_path / "small"))
    trimbre.export(model=place, to="onnx-asr", out=tmp_path / "out")
    asr = onnx_asr.load_model("whisper", tmp_path / "out")
    for language in ("en", "de"):
        texts = [generated(model, features_of([clip], processor), processor, language=language)[0] for clip in CLIPS]
        assert [asr.recognize(clip, language=language).strip() for clip in CLIPS] == texts


def test_what_cannot_be_done_is_refused_in_a_sentence(small, tmp_path):
    processor = FAMILIES["whisper, multilingual"].processor()
    with pytest.raises(UserError, match="takes Parakeet models and this is a WhisperForConditionalGeneration"):
        layout_for("sherpa-onnx", small, processor)
    with pytest.raises(UserError, match="hears with chunk_length 30 and the model with 2: give --to onnx"):
        layout_for("onnx-asr", small, processor)
    place = str(save(small, processor, tmp_path / "small"))
    data = tmp_path / "data"
    write_corpus([Utterance("a", CLIPS[0], "some words", None)], data, source="noise", licence="none")
    with pytest.raises(UserError, match="--calibrate takes models with a CTC head and this is a Whisper"):
        trimbre.export(model=place, to="onnx", precision="int8", calibrate=str(data), out=tmp_path / "out")
