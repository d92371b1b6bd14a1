"""Exported Whispers: encoder and decoder equal the model's whatever heads are left, and write the same texts."""

import copy
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_asr
import pytest
import torch
from helpers.families import END, FAMILIES, edge_plans, random_plan, shaken
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperProcessor

import trimbre
from trimbre.benchmark import bench as benchmarking
from trimbre.cli import run
from trimbre.data.corpus import Utterance, write_corpus
from trimbre.errors import UserError
from trimbre.exporting.int8 import quantise
from trimbre.exporting.onnx import check_graph, distances, write_graph
from trimbre.exporting.runtime import load_exported
from trimbre.exporting.session import session
from trimbre.exporting.targets import layout_for
from trimbre.exporting.whisper import silenced_by
from trimbre.exporting.whisper_decoder import CHECKED_TOKENS, FIRST_WRITTEN, silence
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcriber
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.heads.generation import GenerationRules
from trimbre.models.heads.writing import generated
from trimbre.models.inputs import features_of
from trimbre.models.modeling_trimbre import Skipped
from trimbre.pruning.surgery import cut

MULTILINGUAL = FAMILIES["whisper, multilingual"]
NOISE = np.random.default_rng(3).standard_normal(90_000).astype(np.float32) * 0.1
CLIPS = [NOISE[:20_000], NOISE[20_000:50_000], NOISE[50_000:]]


pytestmark = [pytest.mark.slow, pytest.mark.family("whisper")]


@pytest.fixture(scope="module")
def small(processor):
    """A pruned model with windows and texts as long as every Whisper's, whose texts end after some tokens.

    It may not begin a text with what it would begin the first clip's with.
    """
    torch.manual_seed(0)
    config = MULTILINGUAL.build().config
    config.max_source_positions, config.max_target_positions = 1500, 448
    dense = shaken(WhisperForConditionalGeneration(config))
    dense.generation_config = MULTILINGUAL.build().generation_config
    decoder = dense.model.decoder
    with torch.no_grad():
        decoder.embed_positions.weight[16:] += 50 * decoder.embed_tokens.weight[END]
    model = cut(dense, random_plan(anatomy_of(dense), 5))
    begun = torch.tensor([[END + 1, END + 2, END + 5, END + 9]])
    with torch.no_grad():
        scores = model(**features_of(CLIPS[:1], processor), decoder_input_ids=begun).logits[0, -1]
    scores[model.generation_config.suppress_tokens] = -torch.inf
    model.generation_config.begin_suppress_tokens = [int(scores.argmax())]
    return model


@pytest.fixture(scope="module")
def processor():
    return WhisperProcessor(WhisperFeatureExtractor(), MULTILINGUAL.processor().tokenizer)


@pytest.fixture(scope="module")
def place(small, processor, tmp_path_factory):
    return save(small, processor, tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def exported(place, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "fp32"
    assert run(["export", str(place), "--to", "onnx", "--out", str(out)]) == 0
    return out


@pytest.fixture
def written(exported, monkeypatch):
    """Graphs that were written before are not written again, except those that are named in here."""
    anew = set()

    def once(model, graph, path):
        if graph.name in anew:
            return write_graph(model, graph, path)
        shutil.copy(exported / path.name, path)
        return 0.0

    monkeypatch.setattr("trimbre.exporting.onnx.write_graph", once)
    return anew


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("corpora") / "noise"
    write_corpus([Utterance("a", CLIPS[0], "some words", None)], out, source="noise", licence="none")
    return str(out)


@pytest.mark.parametrize(("name", "plan"), [("English", "no units"), ("multilingual", "no modules")])
def test_a_decoder_without_heads_and_its_graph_are_equal(name, plan, tmp_path):
    """What counts the tokens is the only cache that is left."""
    torch.manual_seed(0)
    family = FAMILIES[f"whisper, {name}"]
    dense = shaken(family.build())
    model = cut(dense, edge_plans(anatomy_of(dense))[plan])
    decoder, path = layout_for("onnx", model, family.processor()).graphs[1], tmp_path / "decoder.onnx"
    assert write_graph(model, decoder, path) <= 1e-5
    graph = onnx.load(path).graph
    given = ["input_ids", "encoder_hidden_states", "use_cache_branch", "past_key_values.0.decoder.key"]
    assert [one.name for one in graph.input] == given
    kinds = [node.op_type for node in graph.node]
    assert "Softmax" not in kinds
    if plan == "no modules":  # nothing is left but the embedding, a norm and the projection
        assert kinds.count("MatMul") == kinds.count("LayerNormalization") == 1


def test_caches_are_those_of_the_heads_that_stay(small, exported):
    given = {one.name: one.shape for one in session(exported / "decoder_model_merged.onnx").get_inputs()}
    heads = {
        f"past_key_values.{number}.{side}.{what}": attention.num_heads
        for number, layer in enumerate(small.model.decoder.layers)
        for side, attention in (("decoder", layer.self_attn), ("encoder", layer.encoder_attn))
        for what in ("key", "value")
        if not isinstance(attention, Skipped)
    }
    assert {name: shape[1] for name, shape in given.items() if name.startswith("past")} == heads
    assert len(set(heads.values())) > 1
    assert len(heads) < 12


def test_every_call_of_a_decoder_is_compared(small, processor, exported):
    decoder, file = layout_for("onnx", small, processor).graphs[1], exported / "decoder_model_merged.onnx"
    assert [bool(trial.feed["use_cache_branch"]) for trial in decoder.trials()] == [False, True] * len(CHECKED_TOKENS)
    assert max(distances(decoder, file)) <= 1e-5
    other = copy.deepcopy(small)
    with torch.no_grad():
        other.model.decoder.layer_norm.bias += 0.01
    with pytest.raises(UserError, match="differs from the model"):
        check_graph(layout_for("onnx", other, processor).graphs[1], file)


def test_an_export_writes_what_the_model_writes(small, processor, exported):
    found = load_exported(exported, threads=2)
    inputs = features_of(CLIPS, processor)
    texts = greedy(small, inputs, processor)
    assert min(map(len, texts)) > 5
    assert greedy(found.model, inputs, found.processor) == texts
    for language in ("en", "de"):
        tokens = generated(small, inputs, processor, language=language)
        assert generated(found.model, inputs, processor, language=language) == tokens
    assert transcriber(*found)(NOISE) == transcriber(small, processor)(NOISE)


def test_int8_is_smaller_and_measured(place, data, written, tmp_path):
    out = tmp_path / "int8"
    trimbre.export(model=str(place), to="onnx", out=out, precision="int8", data=data, tolerance=1000)
    found = json.loads((out / "export.json").read_text())
    assert found["files"]["decoder_model_merged"] == "decoder_model_merged.int8.onnx"
    assert set(found["wer"]) == {"fp32", "int8"}
    assert not list(out.glob("*d.onnx"))
    graph = onnx.load(out / "decoder_model_merged.int8.onnx").graph
    large = [one.name for one in graph.initializer if one.data_type == 1 and np.prod(one.dims) > 1_500]
    assert large == ["module.decoder.embed_positions.weight"]  # the table that embeds and projects is there once


def test_int8_embeds_tokens_as_exactly_as_it_projects(exported, tmp_path):
    quantise(exported / "decoder_model_merged.onnx", tmp_path / "int8.onnx")
    tables = [embedded(path) for path in (exported / "decoder_model_merged.onnx", tmp_path / "int8.onnx")]
    steps = np.abs(tables[0]).max(1) / 64  # of each token's row, in seven bits
    assert (np.abs(tables[0] - tables[1]).max(1) <= 0.51 * steps).all()


def embedded(path):
    """What a decoder's graph makes of tokens before anything else."""
    model = onnx.load(path)
    model.graph.output.append(onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, None))
    onnx.save(model, path.with_name("embedded.onnx"))
    running = session(path.with_name("embedded.onnx"))
    empty = {one.name: np.zeros((0, one.shape[1], 0, one.shape[3]), np.float32) for one in running.get_inputs()[3:]}
    given = {
        "input_ids": np.arange(300)[:, None],
        "encoder_hidden_states": np.zeros((300, 1500, 32), np.float32),
        "use_cache_branch": np.array([False]),
    }
    return running.run(["embedding"], given | empty)[0][:, 0]


def test_the_readme_of_an_export_runs(small, processor, exported, monkeypatch):
    monkeypatch.chdir(exported)
    texts = []
    for block in re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL):
        names = {"samples": CLIPS[0]}
        exec(block, names)
        texts.append(names["text"])
    assert texts == greedy(small, features_of(CLIPS[:1], processor), processor) * 2


def test_the_readme_of_an_export_follows_rules_against_repetition(small, processor, exported, tmp_path, monkeypatch):
    """And takes the language that is preset for the detected one."""
    shutil.copytree(exported, tmp_path / "other")
    described = json.loads((tmp_path / "other" / "export.json").read_text())
    rules = replace(GenerationRules.of(small, processor), language="de", no_repeat_ngram_size=2, repetition_penalty=1.3)
    described["rules"] = rules.to_json()
    (tmp_path / "other" / "export.json").write_text(json.dumps(described))
    monkeypatch.chdir(tmp_path / "other")
    program, *_ = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    names = {"samples": CLIPS[0]}
    exec(program, names)
    text = transcriber(*load_exported("."))(CLIPS[0])
    assert names["text"] == text != transcriber(small, processor)(CLIPS[0])


def test_silence_lets_nothing_forbidden_be_the_likeliest(small):
    """Labels: the start, the end, one that is never written, one not at first, a language, and another."""
    rules = replace(
        GenerationRules.of(small),
        **{"start": 0, "end": 1, "never": (2,), "not_first": (3,), "languages": {"<|en|>": 4, "<|de|>": 5}},
    )
    logits = torch.tensor([[5.0, 1.0, 9.0, 8.0, -3.0, 2.0]]).repeat(1, FIRST_WRITTEN + 3, 1)
    most = FIRST_WRITTEN + 3
    found = silence(logits, torch.arange(most), silenced_by(rules, 6), most)
    assert found[0].argmax(-1).tolist() == [5, 3, 3, 0, 3, 3, 1]
    preset = silenced_by(replace(rules, language="en"), 6)
    assert silence(logits, torch.arange(most), preset, most)[0].argmax(-1).tolist() == [4, 3, 3, 0, 3, 3, 1]


def test_onnx_asr_writes_what_the_model_writes(small, place, processor, written, tmp_path):
    """Unmodified, with features of its own, alone and in a batch."""
    written.add("decoder_model_merged")
    trimbre.export(model=str(place), to="onnx-asr", out=tmp_path / "out")
    asr = onnx_asr.load_model("whisper", tmp_path / "out")
    for language in ("en", "de"):
        texts = generated(small, features_of(CLIPS, processor), processor, language=language)
        assert [asr.recognize(clip, language=language).strip() for clip in CLIPS] == texts
    trimbre.export(model=str(place), to="onnx-asr", out=tmp_path / "german", language="de")
    german = onnx_asr.load_model("whisper", tmp_path / "german")
    assert [german.recognize(clip).strip() for clip in CLIPS] == texts  # no language is named, and none detected
    alike = [CLIPS[0], CLIPS[0][::-1].copy()]  # its features of a clip depend on the loudest of the batch
    texts = generated(small, features_of(alike, processor), processor, language="de")
    assert [text.strip() for text in asr.recognize(alike, language="de")] == texts


def test_bench_recognises_by_the_export(place, written, monkeypatch):
    monkeypatch.setattr(benchmarking, "_loading", benchmarking._loading_here)
    (timing,) = benchmarking.bench([place], runtimes=("onnx-fp32",), threads=(1,), repeats=1)
    assert timing.rtf.median > 0
    assert timing.file_bytes > sum(parameter.nbytes for parameter in trimbre.load(place).model.parameters())


def test_what_cannot_be_done_is_refused_in_a_sentence(small, processor, place, data, tmp_path):
    refused = "to='sherpa-onnx': it does not run a WhisperForConditionalGeneration; give onnx or onnx-asr"
    with pytest.raises(UserError, match=refused):
        layout_for("sherpa-onnx", small, processor)
    with pytest.raises(UserError, match="features have chunk_length 30 and the model's 2: export to onnx"):
        layout_for("onnx-asr", small, MULTILINGUAL.processor())
    with pytest.raises(UserError, match="up to 448 tokens and the model has positions for 40: export to onnx"):
        layout_for("onnx-asr", MULTILINGUAL.build(), processor)
    with pytest.raises(UserError, match="already exists: name another folder or remove it"):
        trimbre.export(model=str(place), to="onnx", out=place)
    assert trimbre.load(place).model.num_parameters() == small.num_parameters()
    with pytest.raises(UserError, match=r"calibrate=.*models with a CTC head and this is a Whisper"):
        trimbre.export(model=str(place), to="onnx", precision="int8", calibrate=data, out=tmp_path / "out")
