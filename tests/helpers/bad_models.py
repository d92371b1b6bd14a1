"""Model directories that nothing can be done with, each named by what is bad about it.

A factory takes a good checkpoint and the place of the bad one, which it makes. Its name, with hyphens, is the place's.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from helpers.checkpoints import newer
from trimbre.models.checkpoint import PLAN

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1234567\n".format("4d7a2146" * 8)
"""What stands in a file that Git LFS has not fetched."""

Factory = Callable[[Path, Path], None]
BAD_MODELS: dict[str, Factory] = {}


def bad(factory: Factory) -> Factory:
    BAD_MODELS[factory.__name__.replace("_", "-")] = factory
    return factory


def copied(change: Factory) -> Factory:
    """A factory that changes a copy of the good checkpoint, which it is given twice."""

    def factory(good: Path, place: Path) -> None:
        shutil.copytree(good, place)
        change(good, place)

    factory.__name__ = change.__name__
    return bad(factory)


def edited(file: Path, **changes: Any) -> None:
    """Change top-level values of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def renamed(place: Path, change: Callable[[str], str | None], *, shard: str = WEIGHTS) -> None:
    """Rename the weights of a checkpoint; None leaves one out."""
    state = load_file(place / WEIGHTS)
    kept = {name: value for old, value in state.items() if (name := change(old)) is not None}
    (place / WEIGHTS).unlink()
    save_file(kept, place / shard, metadata={"format": "pt"})


# What is no directory of a model at all


@bad
def gone(good: Path, place: Path) -> None:
    """Nothing is there; the name might be one of the Hub."""


@bad
def a_file(good: Path, place: Path) -> None:
    place.write_text("hello\n")


@bad
def a_checkpoint_of_nemo(good: Path, place: Path) -> None:
    place.mkdir()
    (place / "model.nemo").write_bytes(b"\0" * 64)


@bad
def empty(good: Path, place: Path) -> None:
    place.mkdir()


@bad
def recordings_alone(good: Path, place: Path) -> None:
    place.mkdir()
    (place / "0.wav").write_bytes(b"RIFF")


@bad
def ctranslate2(good: Path, place: Path) -> None:
    place.mkdir()
    (place / "config.json").write_text("{}")
    (place / "model.bin").write_bytes(b"\0" * 64)


@bad
def exported(good: Path, place: Path) -> None:
    """As `trimbre export` leaves it: graphs and a processor, but no config."""
    shutil.copytree(good, place, ignore=shutil.ignore_patterns("config.json", WEIGHTS))
    (place / "export.json").write_text(json.dumps({"to": "onnx", "files": {"model": "model.onnx"}}))
    (place / "model.onnx").write_bytes(b"\0" * 64)


@bad
def adapter_alone(good: Path, place: Path) -> None:
    place.mkdir()
    described = {"peft_type": "LORA", "base_model_name_or_path": "openai/whisper-tiny", "r": 8}
    (place / "adapter_config.json").write_text(json.dumps(described))
    save_file({"base_model.model.lora_A.weight": torch.zeros(2, 2)}, place / "adapter_model.safetensors")


# Configs


@copied
def no_config(good: Path, place: Path) -> None:
    (place / "config.json").unlink()


@copied
def config_broken(good: Path, place: Path) -> None:
    (place / "config.json").write_text('{"model_type": ')


@copied
def config_a_list(good: Path, place: Path) -> None:
    (place / "config.json").write_text("[1, 2]")


@copied
def config_empty(good: Path, place: Path) -> None:
    (place / "config.json").write_text("")


@copied
def config_without_a_type(good: Path, place: Path) -> None:
    (place / "config.json").write_text("{}")


@copied
def config_a_pointer(good: Path, place: Path) -> None:
    (place / "config.json").write_text(POINTER)


@copied
def config_of_other_values(good: Path, place: Path) -> None:
    edited(place / "config.json", encoder_config="large")


@copied
def unknown_architecture(good: Path, place: Path) -> None:
    edited(place / "config.json", model_type="frobnicator", architectures=["FrobnicatorForCTC"])


@copied
def code_of_its_own(good: Path, place: Path) -> None:
    auto = {"AutoConfig": "configuration_mine.MyConfig", "AutoModelForCTC": "modeling_mine.MyModel"}
    edited(place / "config.json", model_type="mine", auto_map=auto)


@copied
def another_kind_of_model(good: Path, place: Path) -> None:
    edited(place / "config.json", model_type="bert", architectures=["BertForMaskedLM"])


@copied
def another_task(good: Path, place: Path) -> None:
    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    described = {"model_type": "wav2vec2-conformer", "architectures": ["Wav2Vec2ConformerForPreTraining"], **tiny}
    (place / "config.json").write_text(json.dumps(described))
    renamed(place, lambda name: f"wav2vec2_conformer.{name}")


@copied
def quantised(good: Path, place: Path) -> None:
    edited(place / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})


@copied
def quantised_by_gptq(good: Path, place: Path) -> None:
    edited(place / "config.json", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})


@copied
def blank_out_of_range(good: Path, place: Path) -> None:
    edited(place / "config.json", pad_token_id=4_000)


# Weights


@copied
def no_weights(good: Path, place: Path) -> None:
    (place / WEIGHTS).unlink()


@copied
def pickle_alone(good: Path, place: Path) -> None:
    (place / WEIGHTS).rename(place / "pytorch_model.bin")


@copied
def weights_a_pointer(good: Path, place: Path) -> None:
    (place / WEIGHTS).write_text(POINTER)


@copied
def weights_truncated(good: Path, place: Path) -> None:
    whole = (good / WEIGHTS).read_bytes()
    (place / WEIGHTS).write_bytes(whole[: len(whole) // 2])


@copied
def weights_empty(good: Path, place: Path) -> None:
    (place / WEIGHTS).write_bytes(b"")


@copied
def weights_garbage(good: Path, place: Path) -> None:
    (place / WEIGHTS).write_bytes(b"<html>not found</html>" * 9)


@copied
def shard_missing(good: Path, place: Path) -> None:
    names = list(load_file(place / WEIGHTS))
    shards = {name: f"model-0000{1 + (name == names[-1])}-of-00002.safetensors" for name in names}
    (place / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    renamed(place, lambda name: name if name != names[-1] else None, shard=shards[names[0]])


@copied
def index_broken(good: Path, place: Path) -> None:
    (place / WEIGHTS).rename(place / "model-00001-of-00001.safetensors")
    (place / INDEX).write_text('{"weight_map": ')


@copied
def weight_missing(good: Path, place: Path) -> None:
    renamed(place, lambda name: None if name == "ctc_head.bias" else name)


@copied
def weights_of_other_names(good: Path, place: Path) -> None:
    renamed(place, lambda name: f"recogniser.{name}")


@copied
def weights_of_another_shape(good: Path, place: Path) -> None:
    state = load_file(place / WEIGHTS)
    save_file(state | {"ctc_head.bias": torch.zeros(99)}, place / WEIGHTS, metadata={"format": "pt"})


@copied
def weights_not_finite(good: Path, place: Path) -> None:
    state = load_file(place / WEIGHTS)
    save_file({name: value * float("nan") for name, value in state.items()}, place / WEIGHTS, metadata={"format": "pt"})


# Processors


@copied
def no_processor(good: Path, place: Path) -> None:
    for file in place.iterdir():
        if file.name not in ("config.json", WEIGHTS):
            file.unlink()


@copied
def no_tokenizer(good: Path, place: Path) -> None:
    for file in place.glob("*token*"):
        file.unlink()


@copied
def tokenizer_a_pointer(good: Path, place: Path) -> None:
    (place / "tokenizer.json").write_text(POINTER)


@copied
def tokenizer_broken(good: Path, place: Path) -> None:
    (place / "tokenizer.json").write_text("{")


@copied
def empty_vocabulary(good: Path, place: Path) -> None:
    described = json.loads((place / "tokenizer.json").read_text())
    described["model"] |= {"vocab": {}, "merges": []}
    (place / "tokenizer.json").write_text(json.dumps(described | {"added_tokens": []}))


@copied
def extractor_broken(good: Path, place: Path) -> None:
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (place / name).is_file():
            (place / name).write_text('{"feature_extractor": ')


# Pruned checkpoints


@bad
def newer_format(good: Path, place: Path) -> None:
    newer(good.with_name("half"), place)


@bad
def plan_broken(good: Path, place: Path) -> None:
    shutil.copytree(good.with_name("half"), place)
    (place / PLAN).write_text('{"format": ')


@bad
def plan_of_another(good: Path, place: Path) -> None:
    shutil.copytree(good.with_name("half"), place)
    (place / PLAN).write_text(json.dumps({"format": 1, "modules": {"a": {"size": 2, "kept": [0]}}}))


@bad
def layout_broken(good: Path, place: Path) -> None:
    shutil.copytree(good.with_name("half"), place)
    edited(place / "config.json", trimbre={"format": 1, "widths": 3})
