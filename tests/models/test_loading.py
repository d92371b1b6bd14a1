"""What cannot be loaded as its authors saved it is refused in one sentence, by every verb; what can is read rightly."""

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.checkpoints import dense_of
from helpers.families import FAMILIES
from helpers.mini_recogniser import clips
from helpers.tones import corpus_of
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils import logging

import trimbre
from trimbre.cli import run
from trimbre.errors import UserError
from trimbre.inference.greedy import greedy
from trimbre.models.checkpoint import save
from trimbre.models.inputs import features_of
from trimbre.models.source import resolve_model

BASES = {"samples": "wav2vec2-conformer, relative", "mels": "parakeet", "text": "whisper, multilingual"}
WEIGHTS = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    """One model of each kind of input and head."""
    folder = tmp_path_factory.mktemp("bases")
    for base, name in BASES.items():
        save(dense_of(FAMILIES[name]), FAMILIES[name].processor(), folder / base)
    return {base: folder / base for base in BASES}


Change = Callable[[Path], Any]


def states(file: str, **fields: Any) -> Change:
    """Write fields into a JSON file."""

    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | fields))

    return change


def says(file: str, content: str) -> Change:
    return lambda folder: (folder / file).write_text(content)


def lacks(*files: str) -> Change:
    return lambda folder: [(folder / file).unlink() for file in files]


def extracts(**fields: Any) -> Change:
    """Another feature extractor."""

    def change(folder: Path) -> None:
        content = json.loads((folder / "processor_config.json").read_text())
        content["feature_extractor"] |= fields
        (folder / "processor_config.json").write_text(json.dumps(content))

    return change


def weighs(change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> Change:
    """Other weights."""

    def changed(folder: Path) -> None:
        found = change(load_file(folder / WEIGHTS))
        cloned = {name: value.clone() for name, value in found.items()}
        save_file(cloned, folder / WEIGHTS, metadata={"format": "pt"})

    return changed


def renamed(rename: Callable[[str], str]) -> Change:
    return weighs(lambda weights: {rename(name): value for name, value in weights.items()})


def spells(change: Callable[[dict[str, int]], Any]) -> Change:
    """Another vocabulary of letters, without what the tokenizer's config repeats of it."""

    def changed(folder: Path) -> None:
        vocabulary = json.loads((folder / "vocab.json").read_text())
        (folder / "vocab.json").write_text(json.dumps(change(vocabulary)))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config.pop("added_tokens_decoder")
        (folder / "tokenizer_config.json").write_text(json.dumps(config))

    return changed


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def without(*names: str) -> Callable[[dict[str, int]], dict[str, int]]:
    return lambda vocabulary: {token: number for token, number in vocabulary.items() if token not in names}


def nested(folder: Path) -> None:
    (folder / "checkpoint-5").mkdir()
    for file in [file for file in folder.iterdir() if file.is_file()]:
        file.rename(folder / "checkpoint-5" / file.name)


tokenizer = partial(states, "tokenizer_config.json")
config = partial(states, "config.json")

REFUSED: dict[str, tuple[str, Change, str]] = {
    # processors
    "no vocabulary": ("samples", lacks("vocab.json"), "has no tokenizer"),
    "no tokenizer at all": ("samples", lacks("vocab.json", "tokenizer_config.json"), "has no tokenizer"),
    "no tokenizer.json": ("mels", lacks("tokenizer.json"), "has no tokenizer"),
    "no tokens of text": ("text", lacks("tokenizer.json"), "has no tokenizer"),
    "an empty vocabulary": ("samples", says("vocab.json", "{}"), "vocabulary is empty"),
    "an empty file": ("samples", says("vocab.json", ""), r"cannot read .*vocab\.json"),
    "a vocabulary that is a list": ("samples", says("vocab.json", "[]"), r"cannot read .*vocab\.json"),
    "a tokenizer of nothing": ("mels", says("tokenizer.json", "{}"), "cannot load the model .*processor"),
    "no extractor": ("samples", lacks("processor_config.json"), r"no feature extractor \(preprocessor_config"),
    "no extractor in it": ("mels", states("processor_config.json", feature_extractor=None), "has no feature extractor"),
    "two letters of one number": ("samples", spells(lambda one: one | {"ß": 3}), "'c' and 'ß' as the same number 3"),
    "no rate": ("samples", extracts(sampling_rate=None), "sampling_rate"),
    "a language model": (
        "samples",
        states("processor_config.json", processor_class="Wav2Vec2ProcessorWithLM"),
        "decodes with a language model .*trimbre graph",
    ),
    "languages": ("samples", spells(lambda one: {"deu": one, "eng": one}), "of 2 languages .*set target_lang"),
    "a blank of none": ("samples", config(pad_token_id=None), "blank .* is None"),
    "a blank beyond": ("samples", config(pad_token_id=99), "blank .* is 99 and none of its 30 labels"),
    "another blank": ("mels", config(pad_token_id=0), "blank is 29 .* model's is 0"),
    "a letter as pad": ("samples", tokenizer(pad_token="a"), "blank is 1 .* model's is 29"),
    "no pad": (
        "samples",
        both(spells(lambda one: without("<pad>")(one) | {"ß": 29}), tokenizer(pad_token=None)),
        "spells the model's blank 29 as 'ß'",
    ),
    "no unknown token": ("samples", tokenizer(unk_token=None), "has no unknown token"),
    "an unknown token that is the blank": ("samples", spells(without("<unk>")), "unknown token is 29"),
    "a letter beyond": ("samples", spells(lambda one: one | {"ß": 30}), "'ß' as 30 and the model has 30"),
    "a vocabulary of fewer": ("samples", spells(without(*"opqrstuvwx")), "spells 20 of the model's 30"),
    "more mel bands": ("mels", extracts(feature_size=128), "makes 128 mel bands and the model takes 80"),
    "more mel bands of text": ("text", extracts(feature_size=128), "makes 128 mel bands and the model takes 80"),
    "another window": ("text", extracts(chunk_length=30), "of 3000 frames and the model's of 200"),
    "another end": ("text", config(eos_token_id=3), "ends a text with 256 and the model with 3"),
    "other tokens": (
        "text",
        states("generation_config.json", no_timestamps_token_id=300),
        r"<\|notimestamps\|> as 265 and the model's generation config as 300",
    ),
    # weights
    "an adapter": (
        "samples",
        says("adapter_config.json", '{"base_model_name_or_path": "a/b"}'),
        "adapter of a/b: merge",
    ),
    "an adapter alone": (
        "samples",
        both(lacks("config.json", WEIGHTS), says("adapter_config.json", "{}")),
        "is an adapter: merge",
    ),
    "an adapter inside": (
        "samples",
        weighs(lambda one: one | {"lm_head.lora_A.default.weight": torch.zeros(2, 2)}),
        "not merged, such as lm_head.lora_A",
    ),
    **{
        f"quantised by {how}": ("samples", config(quantization_config={"quant_method": how}), rf"quantised \({how}\)")
        for how in ("bitsandbytes", "gptq", "awq", "compressed-tensors", "torchao", "fp8")
    },
    "weights of integers": (
        "samples",
        weighs(lambda one: {name: value.to(torch.int8) if value.dim() == 2 else value for name, value in one.items()}),
        "quantised .*I8",
    ),
    "weights of 8-bit floats": (
        "samples",
        weighs(lambda one: {name: value.to(torch.float8_e4m3fn) for name, value in one.items()}),
        "quantised .*F8_E4M3",
    ),
    "an unknown wrapper": ("samples", renamed(lambda name: f"student.{name}"), "lacks 135 .*others, such as student"),
    **{
        f"a pointer for {file}": (base, says(file, POINTER), rf"{file} is a Git LFS pointer .*git lfs pull")
        for base, file in (
            *[("samples", name) for name in ("config.json", WEIGHTS, "vocab.json", "tokenizer_config.json")],
            *[("text", name) for name in ("generation_config.json", "tokenizer.json", "processor_config.json")],
        )
    },
    "a pointer for a shard": (
        "samples",
        both(
            lacks(WEIGHTS),
            says("model.safetensors.index.json", '{"weight_map": {"a": "model-1.safetensors"}}'),
            says("model-1.safetensors", POINTER),
        ),
        r"model-1\.safetensors is a Git LFS pointer",
    ),
    "a shard that is not there": (
        "samples",
        both(lacks(WEIGHTS), says("model.safetensors.index.json", '{"weight_map": {"a": "model-1.safetensors"}}')),
        r"lacks model-1\.safetensors",
    ),
    "an index of nothing": (
        "samples",
        both(lacks(WEIGHTS), says("model.safetensors.index.json", "{}")),
        r"index\.json: it has no weight_map",
    ),
    "cut off": (
        "samples",
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]),
        "damaged or was cut off",
    ),
    "a page in place of weights": ("samples", says(WEIGHTS, "<html>"), "damaged or was cut off"),
    "another shape": ("samples", config(vocab_size=40), r"lm_head\.bias \(30 in place of 40\)"),
    "fewer layers": ("samples", config(num_hidden_layers=2), "no place for 37 of its weights"),
    "more layers": ("samples", config(num_hidden_layers=4), "lacks 37 of its weights"),
    # other things
    "pretraining": (
        "samples",
        both(
            config(architectures=["Wav2Vec2ConformerForPreTraining"]),
            weighs(lambda one: {name: value for name, value in one.items() if "lm_head" not in name}),
        ),
        "is a Wav2Vec2ConformerForPreTraining, without the weights of a Wav2Vec2ConformerForCTC",
    ),
    "a classifier": (
        "text",
        both(
            config(architectures=["WhisperForAudioClassification"]),
            weighs(lambda one: {name: value for name, value in one.items() if "encoder." in name}),
        ),
        "is a WhisperForAudioClassification",
    ),
    "a model of text": ("samples", config(model_type="bert"), "a bert, is not a model that Trimbre can prune"),
    "an unknown model": ("samples", config(model_type="zipper"), "cannot load the model .*zipper"),
    "an export": (
        "samples",
        both(lacks(WEIGHTS), says("export.json", "{}"), says("model.onnx", "")),
        "is an exported one",
    ),
    "a graph": ("samples", both(lacks(WEIGHTS, "config.json"), says("model.onnx", "")), "is an exported one"),
    "llama.cpp": ("samples", both(lacks(WEIGHTS), says("model.gguf", "")), "weights for llama.cpp"),
    "no weights": ("samples", lacks(WEIGHTS), r"has no weights \(model\.safetensors\)"),
    "a folder of checkpoints": ("samples", nested, "give .*checkpoint-5"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_whole_or_not_its_own_is_refused_in_a_sentence(bases, tmp_path, what):
    base, change, expected = REFUSED[what]
    place = tmp_path / "model"
    shutil.copytree(bases[base], place)
    change(place)
    with pytest.raises(UserError, match=expected) as refused:
        trimbre.load(place)
    if what != "no rate":
        assert str(place) in str(refused.value)
    assert "\n" not in str(refused.value)


WRAPPED = {
    "DataParallel": lambda name: f"module.{name}",
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "a merged adapter": lambda name: f"base_model.model.{name}",
    "blocks compiled and wrapped": lambda name: name.replace(
        "layers.1.", "layers.1._fsdp_wrapped_module._orig_mod."
    ).replace("fc1.", "_orig_mod.fc1."),
}


@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize("base", ["samples", "text"])
def test_weights_that_were_saved_while_wrapped_are_read(bases, tmp_path, base, how):
    shutil.copytree(bases[base], tmp_path / "model")
    renamed(WRAPPED[how])(tmp_path / "model")
    expected, found = (trimbre.load(place).model.state_dict() for place in (bases[base], tmp_path / "model"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def capitals(vocabulary: dict[str, int]) -> dict[str, int]:
    return {token if token.startswith("<") else token.upper(): number for token, number in vocabulary.items()}


def wider(labels: int) -> Change:
    """A head with labels that no token has."""

    def pad(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        for name in ("lm_head.weight", "lm_head.bias"):
            old = weights[name]
            weights[name] = torch.full((labels, *old.shape[1:]), -9.0 if name.endswith("bias") else 0.0)
            weights[name][: len(old)] = old
        return weights

    return both(weighs(pad), config(vocab_size=labels))


ACCEPTED: dict[str, tuple[str, Change]] = {
    "special tokens beyond the labels": ("samples", tokenizer(bos_token="<s>", eos_token="</s>")),
    "a padded head": ("samples", wider(32)),
    "a head padded to a round number": ("samples", wider(48)),
    "capitals": ("samples", spells(capitals)),
    "one language of several": (
        "samples",
        both(spells(lambda one: {"deu": one, "eng": capitals(one)}), tokenizer(target_lang="deu")),
    ),
    "an adapter of another language beside it": ("samples", says("adapter.fra.safetensors", POINTER)),
    "weights of pretraining beside it": ("samples", weighs(lambda one: one | {"quantizer.codevectors": torch.ones(2)})),
    "notes of a trainer": ("samples", both(says("training_args.bin", ""), says("trainer_state.json", ""))),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_is_right_is_loaded(bases, tmp_path, what):
    base, change = ACCEPTED[what]
    shutil.copytree(bases[base], tmp_path / "model")
    change(tmp_path / "model")
    texts = []
    for place in (bases[base], tmp_path / "model"):
        model, processor = trimbre.load(place)
        texts += greedy(model, features_of(clips(1.0), processor), processor)
    assert texts[0].lower() == texts[1].lower() != ""


def test_every_verb_refuses_in_the_same_words_and_writes_nothing(bases, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging, "_tqdm_active", False)  # as the command's environment has it
    data = corpus_of(tmp_path / "data", clips(0.5), ["a"])
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("a bad cab\n")
    out = str(tmp_path / "out")
    for number, what in enumerate(("another blank", "an adapter", "a pointer for vocab.json")):
        base, change, expected = REFUSED[what]
        place = tmp_path / f"model-{number}"
        shutil.copytree(bases[base], place)
        change(place)
        model, sane = str(place), str(bases["mels"])
        lines = []
        for words in (
            ["eval", model, "--data", str(data)],
            ["eval", sane, "--data", str(data), "--against", model],
            ["transcribe", model, str(data / "audio" / "0.flac")],
            ["prune", model, "--train", str(data), "--out", out],
            ["prune", model, "--train", str(data), "--out", out, "--dry-run"],
            ["train", "--model", model, "--train", str(data), "--dev", str(data), "--out", out],
            ["inspect", model],
            ["export", model, "--to", "onnx", "--out", out],
            ["bench", model, "--runtimes", "torch-fp32", "--threads", "1"],
            ["bench", model, "--table", str(tmp_path / "table.json")],
            ["graph", model, "--sentences", str(sentences), "--out", out],
        ):
            assert run([*words, "--json"]) == 2, words
            captured = capsys.readouterr()
            assert captured.out == ""
            lines += captured.err.splitlines()
        assert len(lines) == 11
        (said,) = set(lines)
        with pytest.raises(UserError, match=expected):
            trimbre.load(place)
        assert said.startswith("trimbre: ")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "sentences.txt", "model-0", "model-1", "model-2"}


def test_a_processor_in_memory_is_checked_as_one_on_disk(bases):
    models = {base: trimbre.load(place) for base, place in bases.items()}
    for base, other in (("samples", "mels"), ("mels", "text"), ("text", "samples")):
        for given in (models[base].model, bases[base]):
            with pytest.raises(UserError, match=rf"the processor of the model .*{base} is not its own"):
                resolve_model(given, models[other].processor)
    model, processor = models["samples"]
    for part in (processor.feature_extractor, processor.tokenizer):
        with pytest.raises(UserError, match=r"the processor of the model .* has no (tokenizer|feature extractor)"):
            resolve_model(model, part)
    with pytest.raises(UserError, match="is not its own"):
        trimbre.evaluate(model, models["mels"].processor, data=[])
    model.config.pad_token_id = 3
    with pytest.raises(UserError, match=r"blank is 29 .* model's is 3"):
        resolve_model(model, processor)


def test_a_processor_with_a_language_model_is_refused_in_memory_too(bases):
    model, processor = trimbre.load(bases["samples"])

    class ProcessorWithLM(type(processor)):
        pass

    found = ProcessorWithLM(processor.feature_extractor, processor.tokenizer)
    with pytest.raises(UserError, match="decodes with a language model"):
        resolve_model(model, found)


def test_a_processor_beside_a_path_takes_the_place_of_a_broken_one(bases, tmp_path):
    shutil.copytree(bases["samples"], tmp_path / "model")
    lacks("vocab.json", "processor_config.json")(tmp_path / "model")
    own = trimbre.load(bases["samples"]).processor
    assert resolve_model(tmp_path / "model", own).recogniser.processor is own


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "model.onnx": "exported graph",
        "ggml-base.bin": "whisper.cpp",
        "base.gguf": "llama.cpp",
        "model.safetensors": "give the directory",
        "parakeet.nemo": "pickle",
    }.items(),
)
def test_a_file_is_refused_by_its_kind(tmp_path, name, expected):
    (tmp_path / name).write_bytes(np.zeros(9).tobytes())
    with pytest.raises(UserError, match=expected):
        trimbre.load(tmp_path / name)


def test_a_folder_of_the_cache_of_the_hub_is_named(tmp_path):
    (tmp_path / "models--openai--whisper-base" / "snapshots").mkdir(parents=True)
    with pytest.raises(UserError, match="give openai/whisper-base"):
        trimbre.load(tmp_path / "models--openai--whisper-base")
