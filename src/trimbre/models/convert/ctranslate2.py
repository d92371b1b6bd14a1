"""A CTranslate2 Whisper, as faster-whisper reads it, made into an ordinary transformers directory."""

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from trimbre.errors import UserError, reason
from trimbre.files import refuse_existing
from trimbre.models.checkpoint import save
from trimbre.models.convert.model_bin import QUANTISED, ModelBin, read_model_bin

REVISION = 3
"""Of CTranslate2's layout of a Whisper."""
SMALLEST_MULTILINGUAL = 51_865
"""Vocabulary from which a Whisper knows languages, as its authors' code decides it."""
FRAMES_PER_SECOND = 50
"""Encoder positions."""
SETTINGS = {"activation": 3, "alibi": 0, "pre_norm": 1, "scale_embeddings": 0, "start_from_zero_embedding": 0}
"""Switches of the decoder, with the value that makes it Whisper's; 3 is the exact GELU."""
BESIDE = ("alignment_heads", "alignment_layer", "alibi_use_positive_positions", "scale_alibi", "num_heads")
"""Settings that change nothing here: how CTranslate2 aligns words, and what only matters with alibi."""


@dataclass(frozen=True)
class Converted:
    """What was written."""

    out: Path
    parameters: int
    multilingual: bool
    half: bool
    """Whether the weights are stored as float16, as the source's were."""

    def to_json(self) -> dict[str, Any]:
        return {
            "out": str(self.out),
            "parameters": self.parameters,
            "multilingual": self.multilingual,
            "dtype": "float16" if self.half else "float32",
        }


def convert(*, source: str | Path, out: str | Path) -> Converted:
    """Write the CTranslate2 Whisper in the directory `source` to `out`, with the processor that feeds it.

    Weights stored as float16 stay so; quantised ones become float32, at exactly the values that they stand for.

    Raises:
        UserError: the directory holds no such model, or one that is damaged or of another kind.
    """
    source, out = Path(source), Path(out)
    refuse_existing(out, model=source)
    if not source.is_dir():
        raise UserError(f"no directory {source}: give one that holds a model.bin and a tokenizer.json")
    for name in ("model.bin", "tokenizer.json"):
        if not (source / name).is_file():
            raise UserError(f"{source} has no {name}: give a directory that CTranslate2's converter wrote")
    stored = read_model_bin(source / "model.bin")
    if (stored.spec, stored.revision) != ("WhisperSpec", REVISION):
        raise UserError(
            f"{source / 'model.bin'} holds a {stored.spec} of revision {stored.revision}: "
            f"a WhisperSpec of revision {REVISION} can be converted"
        )
    tokenizer = read_tokenizer(source / "tokenizer.json")
    model = _model(stored, source / "model.bin", tokenizer)
    multilingual = stored.variables["decoder/embeddings/weight"].shape[0] >= SMALLEST_MULTILINGUAL
    model.generation_config = _generation(model.config, tokenizer, _own_config(source, model.config), multilingual)
    mels, positions = model.config.num_mel_bins, model.config.max_source_positions
    extractor = WhisperFeatureExtractor(feature_size=mels, chunk_length=positions // FRAMES_PER_SECOND)
    half = all(v.dtype == torch.float16 for v in stored.variables.values() if v.is_floating_point())
    half = half and not any(v.dtype in QUANTISED and v.dim() for v in stored.variables.values())
    save(model, WhisperProcessor(extractor, tokenizer), out, half=half)
    return Converted(out, sum(p.numel() for p in model.parameters()), multilingual, half)


def read_tokenizer(file: Path) -> WhisperTokenizer:
    """The tokenizer, with the tokens of timestamps, which CTranslate2 keeps in its vocabulary alone."""
    try:
        described = json.loads(file.read_text())
        added = [token["content"] for token in described["added_tokens"] if token["special"]]
        _restore_merges(described["model"])
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "tokenizer.json").write_text(json.dumps(described))
            end: dict[str, Any] = {f"{role}_token": "<|endoftext|>" for role in ("bos", "eos", "pad", "unk")}
            special = [token for token in added if token != "<|endoftext|>"]
            tokenizer = WhisperTokenizer.from_pretrained(folder, extra_special_tokens=special, **end)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise UserError(f"cannot read {file}: {reason(error)[:200]}") from error
    known = tokenizer.get_vocab()
    for token in ("<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>"):
        if token not in known:
            raise UserError(f"{file} is not a Whisper's: it has no {token}")
    if len(tokenizer) == known["<|notimestamps|>"] + 1:
        tokenizer.add_tokens([f"<|{hundredths / 100:.2f}|>" for hundredths in range(0, 3001, 2)])
    return tokenizer


def _restore_merges(described: dict[str, Any]) -> None:
    """Add, in place, the merges of two bytes that a byte-pair vocabulary has a token for and its merges lack.

    Files of multilingual Whispers lack the very first, of a space and a t, so that no token that begins with both could
    be spelled: the model writes ` the` as one token.
    """
    vocabulary, merges = described["vocab"], described["merges"]
    made = [token if isinstance(token, str) else " ".join(token) for token in merges]
    results = [merge.replace(" ", "") for merge in made]
    lacking = {token for token in vocabulary if len(token) == 2 and set(token) <= set(vocabulary)} - set(results)
    for token in sorted(lacking, key=vocabulary.__getitem__):
        place = sum(vocabulary[result] < vocabulary[token] for result in results)
        merges.insert(place, " ".join(token) if not merges or isinstance(merges[0], str) else list(token))
        results.insert(place, token)


def _model(stored: ModelBin, path: Path, tokenizer: WhisperTokenizer) -> WhisperForConditionalGeneration:
    """The model, its shape read off its weights."""
    variables = stored.variables

    def variable(name: str, rank: int) -> Tensor:
        if name not in variables:
            raise UserError(f"{path} lacks {name}: fetch it again")
        if variables[name].dim() != rank:
            raise UserError(f"{path} has {name} of rank {variables[name].dim()} where Whisper's has {rank}")
        return variables[name]

    for name, wanted in SETTINGS.items():
        if int(variable(f"decoder/{name}", 0)) != wanted:
            raise UserError(f"{path} has decoder/{name} {int(variables[f'decoder/{name}'])}: Whisper's is {wanted}")
    layers = {stack: _layers(variables, stack, path) for stack in ("encoder", "decoder")}
    heads = {stack: int(variable(f"{stack}/num_heads", 0)) for stack in layers}
    words, width = variable("decoder/embeddings/weight", 2).shape
    if any(count < 1 or width % count for count in heads.values()):
        raise UserError(f"{path} has a width of {width}, which {heads['encoder']} heads cannot share: fetch it again")
    named: dict[str, Any] = {
        token: tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|startoftranscript|>")
    }
    if max(named.values()) >= words:
        raise UserError(f"{path} has {words} words, fewer than its tokenizer.json: they are of different models")
    config = WhisperConfig(
        vocab_size=words,
        num_mel_bins=variable("encoder/conv1/weight", 3).shape[1],
        d_model=width,
        encoder_layers=layers["encoder"],
        decoder_layers=layers["decoder"],
        encoder_attention_heads=heads["encoder"],
        decoder_attention_heads=heads["decoder"],
        encoder_ffn_dim=variable("encoder/layer_0/ffn/linear_0/weight", 2).shape[0],
        decoder_ffn_dim=variable("decoder/layer_0/ffn/linear_0/weight", 2).shape[0],
        max_source_positions=variable("encoder/position_encodings/encodings", 2).shape[0],
        max_target_positions=variable("decoder/position_encodings/encodings", 2).shape[0],
        bos_token_id=named["<|startoftranscript|>"],
        eos_token_id=named["<|endoftext|>"],
        pad_token_id=named["<|endoftext|>"],
        decoder_start_token_id=named["<|startoftranscript|>"],
    )
    if config.max_source_positions % FRAMES_PER_SECOND:
        raise UserError(f"{path} has {config.max_source_positions} positions: Whisper's are whole seconds, 50 in each")
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(config)
    state, used = {}, {f"decoder/{name}" for name in (*SETTINGS, *BESIDE)} | {"encoder/num_heads"}
    for name, (source, part, parts) in _places(config).items():
        value = variable(source, model.get_parameter(name).dim())
        shape = [parts * model.get_parameter(name).shape[0], *model.get_parameter(name).shape[1:]]
        if list(value.shape) != shape:
            raise UserError(f"{path} has {source} of shape {list(value.shape)} where {shape} belongs: fetch it again")
        state[name] = stored.weight(source).float().chunk(parts)[part].clone()
        used |= {source, f"{source}_scale"}
    if unknown := sorted(set(variables) - used):
        raise UserError(f"{path} has {len(unknown)} variables that Whisper has not, such as {unknown[0]}")
    if not torch.equal(variables["decoder/projection/weight"], variables["decoder/embeddings/weight"]):
        raise UserError(f"{path} has a projection apart from its embeddings: Whisper's are one")
    del state["proj_out.weight"]
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    return model.eval()


def _layers(variables: Mapping[str, Tensor], stack: str, path: Path) -> int:
    """How many layers a stack has; UserError where their numbers have a gap."""
    numbers = {int(found[1]) for name in variables if (found := re.match(rf"{stack}/layer_(\d{{1,4}})/", name))}
    if not numbers or numbers != set(range(len(numbers))):
        raise UserError(f"{path} lacks layers of the {stack}: fetch it again")
    return len(numbers)


def _places(config: WhisperConfig) -> dict[str, tuple[str, int, int]]:
    """Where every parameter comes from: name -> (variable, which part of it along its rows, of how many)."""
    both = ("weight", "bias")
    places = {"proj_out.weight": ("decoder/projection/weight", 0, 1)}
    places["model.decoder.embed_tokens.weight"] = ("decoder/embeddings/weight", 0, 1)
    for conv in ("conv1", "conv2"):
        places |= {f"model.encoder.{conv}.{kind}": (f"encoder/{conv}/{kind}", 0, 1) for kind in both}

    def norm(ours: str, theirs: str) -> None:
        places[f"{ours}.weight"] = (f"{theirs}/gamma", 0, 1)
        places[f"{ours}.bias"] = (f"{theirs}/beta", 0, 1)

    def linear(ours: str, theirs: str, part: int = 0, parts: int = 1) -> None:
        # A bias on the keys adds the same to all scores of a query, which softmax does not see: Whisper has none.
        for kind in both if not ours.endswith("k_proj") else ("weight",):
            places[f"{ours}.{kind}"] = (f"{theirs}/{kind}", part, parts)

    for stack, count in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        places[f"model.{stack}.embed_positions.weight"] = (f"{stack}/position_encodings/encodings", 0, 1)
        norm(f"model.{stack}.layer_norm", f"{stack}/layer_norm")
        for layer in range(count):
            ours, theirs = f"model.{stack}.layers.{layer}", f"{stack}/layer_{layer}"
            for part, name in enumerate("qkv"):
                linear(f"{ours}.self_attn.{name}_proj", f"{theirs}/self_attention/linear_0", part, 3)
            linear(f"{ours}.self_attn.out_proj", f"{theirs}/self_attention/linear_1")
            norm(f"{ours}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm")
            if stack == "decoder":
                linear(f"{ours}.encoder_attn.q_proj", f"{theirs}/attention/linear_0")
                for part, name in enumerate("kv"):
                    linear(f"{ours}.encoder_attn.{name}_proj", f"{theirs}/attention/linear_1", part, 2)
                linear(f"{ours}.encoder_attn.out_proj", f"{theirs}/attention/linear_2")
                norm(f"{ours}.encoder_attn_layer_norm", f"{theirs}/attention/layer_norm")
            linear(f"{ours}.fc1", f"{theirs}/ffn/linear_0")
            linear(f"{ours}.fc2", f"{theirs}/ffn/linear_1")
            norm(f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")
    return places


def _own_config(source: Path, config: WhisperConfig) -> dict[str, Any]:
    """The lists of the source's config.json that hold, checked; those that aren't there are left out."""
    file = source / "config.json"
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text())
        lists = {name: found.get(name) or [] for name in ("suppress_ids", "suppress_ids_begin", "lang_ids")}
        lists = {name: [int(i) for i in ids if i != -1] for name, ids in lists.items()}  # -1: CTranslate2's default
        heads = [[int(layer), int(head)] for layer, head in found.get("alignment_heads") or []]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read {file}: {reason(error)}") from error
    for name, ids in lists.items():
        if any(not 0 <= i < config.vocab_size for i in ids):
            raise UserError(f"{file} names in {name} a token that the model does not have: it's another model's")
    if any(
        not (0 <= layer < config.decoder_layers and 0 <= head < config.decoder_attention_heads) for layer, head in heads
    ):
        raise UserError(f"{file} names in alignment_heads a head that the model does not have: it's another model's")
    return lists | {"alignment_heads": heads}


def _generation(
    config: WhisperConfig, tokenizer: WhisperTokenizer, own: Mapping[str, Any], multilingual: bool
) -> GenerationConfig:
    """How transformers is to decode: which tokens lead in, which may not be said, which heads align words."""
    ids: Callable[[str], Any] = tokenizer.convert_tokens_to_ids
    layers, heads = config.decoder_layers, config.decoder_attention_heads
    settings: dict[str, Any] = {
        "alignment_heads": own.get("alignment_heads")
        or [[layer, head] for layer in range(layers // 2, layers) for head in range(heads)],
        "suppress_tokens": own.get("suppress_ids") or None,
        "begin_suppress_tokens": own.get("suppress_ids_begin") or None,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "decoder_start_token_id": config.decoder_start_token_id,
        "no_timestamps_token_id": ids("<|notimestamps|>"),
        "prev_sot_token_id": ids("<|startofprev|>"),
        "max_initial_timestamp_index": 50,
        "max_length": config.max_target_positions,
        "return_timestamps": False,
        "is_multilingual": multilingual,
    }
    if multilingual:
        settings["lang_to_id"] = dict(_languages(tokenizer, own.get("lang_ids") or []))
        settings["task_to_id"] = {task: ids(f"<|{task}|>") for task in ("transcribe", "translate")}
        settings["task"] = "transcribe"  # else `generate` leaves the token of the task out of the prompt
    return GenerationConfig(**settings)


def _languages(tokenizer: WhisperTokenizer, stated: list[int]) -> Iterator[tuple[str, int]]:
    """Tokens of languages with their ids: those that the source states, or all that look like one."""
    for token, number in sorted(tokenizer.get_added_vocab().items(), key=lambda pair: pair[1]):
        if re.fullmatch(r"<\|[a-z]{2,3}\|>", token) and (not stated or number in stated):
            yield token, number
