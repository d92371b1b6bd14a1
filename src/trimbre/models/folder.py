"""What lies in a model's folder, checked before transformers reads it.

transformers would fail late, in other words than the user's, or not at all: it passes over a pointer in place of a
generation config or an adapter beside the weights, and the model then gives other text than its authors'.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from trimbre.errors import UserError, reason
from trimbre.models.modeling_trimbre import FORMAT

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
SNAPSHOTS = "snapshots"
"""In the Hub's cache the folder of a model's revisions, within that of the model."""
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
"""Files that hold a vocabulary; a tokenizer has one of them."""
EXTRACTORS = ("preprocessor_config.json", "processor_config.json")
"""Files that describe a feature extractor."""
SETTINGS = (
    CONFIG,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "normalizer.json",
    "plan.json",
    *EXTRACTORS,
)
READ = (*SETTINGS, *TOKENIZERS, "merges.txt", "chat_template.jinja")
"""Files beside the weights that loading reads."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".nemo")
POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands for one in Git LFS."""
DTYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "BOOL"}
"""Of weights as training leaves them; those of a quantised model have others."""
WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts that torch.compile, FSDP and activation checkpointing put into the names of weights, wherever they wrap."""
LEADING = re.compile(r"(?:module\.|base_model\.model\.|_orig_mod\.|_fsdp_wrapped_module\.)+")
"""What DataParallel and PEFT put before the names of all weights."""


def check_folder(folder: Path, name: str) -> dict[str, str]:
    """Check that a folder holds a model in transformers' layout, whole and in full precision.

    Args:
        name: of the model, as the user gave it.

    Returns:
        For weights that were saved while wrapped, their names as patterns -> without the wrapper's part, as the
        `key_mapping` of `from_pretrained` takes them.

    Raises:
        UserError: it does not.
    """
    if folder.is_file():
        raise _is_file(folder)
    if (folder / ADAPTER).is_file():
        raise UserError(
            f"the model {name} is an adapter{_base_of(folder)}: merge it into its base model first "
            "(merge_and_unload of peft, then save_pretrained) and give the folder of the result"
        )
    if not (folder / CONFIG).is_file():
        raise _no_config(folder, name)
    for file in READ:
        _refuse_pointer(folder / file)
    config = _settings(folder / CONFIG)
    for file in SETTINGS:
        if (folder / file).is_file():
            _settings(folder / file)
    _refuse_layout(config, folder)
    if quantised := config.get("quantization_config") or config.get("compression_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise _quantised(name, f" ({method})" if method else "")
    names = _weights(folder, name)
    if adapted := next((weight for weight in names if "lora_" in weight), None):
        raise UserError(
            f"the weights of the model {name} hold an adapter that is not merged, such as {adapted}: merge it first "
            "(merge_and_unload of peft, then save_pretrained)"
        )
    return _wrapping(names)


def check_processor_files(folder: Path, name: str) -> None:
    """Check that a folder holds a tokenizer and a feature extractor, and no language model beside them.

    Raises:
        UserError: it does not.
    """
    separate, joint = (folder / file for file in EXTRACTORS)
    if not separate.is_file() and not (joint.is_file() and _settings(joint).get("feature_extractor")):
        raise UserError(
            f"the model {name} has no feature extractor (preprocessor_config.json): copy that file from the model that "
            "it was trained from"
        )
    if not any((folder / file).is_file() for file in TOKENIZERS):
        raise UserError(
            f"the model {name} has no tokenizer (tokenizer.json or vocab.json): copy its files from the model that it "
            "was trained from"
        )
    for file in TOKENIZERS:
        if file.endswith(".json") and (folder / file).is_file():
            _refuse_nested(folder, file, _settings(folder / file))
    for file in (*EXTRACTORS, "tokenizer_config.json"):
        stated = _settings(folder / file).get("processor_class") if (folder / file).is_file() else None
        if str(stated).endswith("WithLM"):
            raise with_language_model(name, str(stated))


def _refuse_nested(folder: Path, file: str, content: Mapping[str, Any]) -> None:
    """Raise UserError for the vocabularies of several languages of which none is chosen."""
    chosen = folder / "tokenizer_config.json"
    if file != "vocab.json" or not content or not all(isinstance(one, dict) for one in content.values()):
        return
    if not (chosen.is_file() and _settings(chosen).get("target_lang")):
        raise UserError(
            f"{folder / file} has a vocabulary for each of {len(content)} languages and none is chosen: "
            f"set target_lang in {chosen}, such as {next(iter(content))}"
        )


def repository_of(folder: Path) -> str | None:
    """OWNER/NAME of a folder in the Hub's cache that has the revisions of a model; None for any other folder."""
    name = folder.name.removeprefix("models--")
    return None if name == folder.name else name.replace("--", "/", 1)


def with_language_model(name: str, stated: str) -> UserError:
    """The error for a processor that decodes with a language model of its own."""
    return UserError(
        f"the processor of the model {name} decodes with a language model ({stated}), which Trimbre does not: save one "
        "of its feature_extractor and tokenizer alone in a copy of the folder, and give the n-grams to trimbre graph"
    )


def _is_file(path: Path) -> UserError:
    """The error for a file in place of a folder."""
    if path.suffix == ".onnx":
        return UserError(f"{path} is an exported graph: give the directory of the model that it was exported from")
    if path.suffix == ".gguf" or path.name.startswith("ggml-"):
        return UserError(f"{path} holds weights for llama.cpp or whisper.cpp: give the model that it was made from")
    if path.suffix in PICKLES:
        return _pickle(path)
    return UserError(f"the model {path} is a file: give the directory that holds its config.json")


def _no_config(folder: Path, name: str) -> UserError:
    """The error for a folder without a config.json, by what else lies there."""
    files = sorted(folder.iterdir())
    if (folder / "model.bin").is_file() or any(file.suffix in (*PICKLES, ".onnx", ".gguf") for file in files):
        return _no_weights(folder, name, files)
    if (folder / SNAPSHOTS).is_dir() and (hub := repository_of(folder)):
        return UserError(f"{folder} is a folder of the Hub's cache: give {hub}, or one of the folders in its snapshots")
    if steps := [file for file in files if file.name.startswith("checkpoint-") and (file / CONFIG).is_file()]:
        return UserError(f"the model {name} has no config.json, but {steps[-1].name} in it has: give {steps[-1]}")
    return UserError(f"the model {name} has no config.json: give a directory that save_pretrained wrote")


def _no_weights(folder: Path, name: str, files: Iterable[Path]) -> UserError:
    """The error for a folder without weights in safetensors, by what lies there in their place."""
    suffixes = {file.suffix: file for file in files if not file.name.startswith("training_args")}
    if (folder / "export.json").is_file() or ".onnx" in suffixes:
        return UserError(f"the model {name} is an exported one: give the directory of the model it was exported from")
    if (folder / "model.bin").is_file():  # transformers' pickle is pytorch_model.bin
        return UserError(f"{folder} is a CTranslate2 model: convert it first (trimbre convert ctranslate2 {folder})")
    if pickled := next((suffixes[suffix] for suffix in PICKLES if suffix in suffixes), None):
        return _is_file(pickled)
    if ".gguf" in suffixes:
        return _is_file(suffixes[".gguf"])
    if shards := [file.name for file in files if re.fullmatch(r"model-\d+-of-\d+\.safetensors", file.name)]:
        return UserError(f"the model {name} has {shards[0]} but no {INDEX}, which says what is in it: fetch it again")
    return UserError(f"the model {name} has no weights ({WEIGHTS}): fetch it again, or save it by save_pretrained")


def _pickle(path: Path) -> UserError:
    return UserError(
        f"{path} holds weights as a pickle, which can run code when it's read: "
        "convert it to safetensors first (load it where you trust it and call save_pretrained)"
    )


def _base_of(folder: Path) -> str:
    """Which model an adapter is of, where it says so."""
    try:
        base = json.loads((folder / ADAPTER).read_text()).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    return f" of {base}" if base else ""


def _refuse_pointer(path: Path) -> None:
    """Raise UserError for a file that stands for one in Git LFS."""
    if not path.is_file():
        return
    with path.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            raise UserError(
                f"{path} is a Git LFS pointer and not the file itself: run git lfs pull in its folder, or fetch the "
                "model from the Hub"
            )


def _settings(path: Path) -> dict[str, Any]:
    """A JSON file of settings."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    if not isinstance(found, dict):
        raise UserError(f"cannot read {path}: it holds no JSON object")
    return found


def _refuse_layout(config: dict[str, Any], folder: Path) -> None:
    """Raise UserError for a cut model that a later version of Trimbre wrote."""
    if not (layout := config.get("trimbre")):
        return
    stated = layout.get("format") if isinstance(layout, dict) else None
    if not isinstance(stated, int):
        raise UserError(f"cannot read {folder / CONFIG}: what it says of the cut has no format")
    if stated > FORMAT:
        raise UserError(
            f"{folder} is a checkpoint of format {stated} and this Trimbre reads up to {FORMAT}: update Trimbre"
        )


def _weights(folder: Path, name: str) -> list[str]:
    """Names of all weights, from the headers of the files that hold them."""
    if (folder / WEIGHTS).is_file():
        files = [WEIGHTS]
    elif (folder / INDEX).is_file():
        _refuse_pointer(folder / INDEX)
        placed = _settings(folder / INDEX).get("weight_map")
        if not isinstance(placed, dict) or not all(isinstance(file, str) for file in placed.values()):
            raise UserError(f"cannot read {folder / INDEX}: it has no weight_map")
        files = sorted(set(placed.values()))
        if lacking := [file for file in files if not (folder / file).is_file()]:
            raise UserError(f"the model {name} lacks {lacking[0]}, which its {INDEX} names: fetch it again")
    else:
        raise _no_weights(folder, name, sorted(folder.iterdir()))
    return [weight for file in files for weight in _header(folder / file, name)]


def _header(path: Path, name: str) -> list[str]:
    """Names of the weights in a file, which is checked for being whole; no weight is read."""
    _refuse_pointer(path)
    try:
        with safe_open(path, "pt") as opened:
            found = list(opened.keys())
            dtypes = {opened.get_slice(weight).get_dtype() for weight in found}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is damaged or was cut off ({reason(error)}): fetch it again") from error
    if strange := sorted(dtypes - DTYPES):
        raise _quantised(name, f" (weights in {strange[0]})")
    return found


def _quantised(name: str, how: str) -> UserError:
    return UserError(
        f"the model {name} is quantised{how}, and Trimbre computes with weights in full precision: give the model that "
        "it was made from"
    )


def _wrapping(names: Sequence[str]) -> dict[str, str]:
    """Pattern of a name with a wrapper's part in it -> the name without."""
    leading = {found[0] if (found := LEADING.match(weight)) else "" for weight in names}
    before = leading.pop() if len(leading) == 1 else ""
    plain = {weight: WRAPPERS.sub("", weight.removeprefix(before)) for weight in names}
    return {f"^{re.escape(weight)}$": name for weight, name in plain.items() if weight != name}
