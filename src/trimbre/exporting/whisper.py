"""Export of Whisper: an encoder for one window, and a decoder with caches that is called for every token.

Files, inputs and outputs have the names that Optimum gave them and onnx-asr reads.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.errors import OptionError
from trimbre.exporting.targets import Layout, OnnxGraph, Trial, noise
from trimbre.exporting.whisper_decoder import CachedDecoder, caches_of, trials
from trimbre.models.inputs import features_of, rate_of

ENCODER, DECODER = "encoder_model", "decoder_model_merged"
CHECKED_SECONDS = ((0.1,), (3.7, 1.2), (11.3, 0.6, 2.5))
"""Batches that the encoder is compared on, by the lengths of their clips in seconds."""
LONGEST_TEXT = 448
"""Tokens that onnx-asr generates at most, whatever the model's own limit."""


@dataclass(frozen=True)
class Rules:
    """Prompt tokens and suppressed tokens of greedy decoding, from the model's generation config."""

    start: int
    languages: Mapping[str, int]
    """Token of each language by its name, such as <|en|>; empty for an English-only model."""
    after: tuple[int, ...]
    """Tokens after the start and, in a multilingual model, the language: task and no timestamps."""
    end: int
    never: tuple[int, ...]
    not_first: tuple[int, ...]
    most: int
    """Tokens of a text at most, the prompt included."""

    @classmethod
    def of(cls, model: Any) -> "Rules":
        generation = model.generation_config
        several = getattr(generation, "is_multilingual", False)
        after = (generation.task_to_id["transcribe"],) if several else ()
        if (untimed := getattr(generation, "no_timestamps_token_id", None)) is not None:
            after = (*after, untimed)
        room = model.config.max_target_positions
        return cls(
            start=generation.decoder_start_token_id,
            languages=generation.lang_to_id if several else {},
            after=after,
            end=generation.eos_token_id,
            never=tuple(generation.suppress_tokens or ()),
            not_first=tuple(generation.begin_suppress_tokens or ()),
            most=min(room, (generation.max_length or room) + 1 + several + len(after)),
        )


def layout(to: str, model: PreTrainedModel, processor: ProcessorMixin) -> Layout:
    """The layout of a Whisper for the runtime `to`.

    Raises:
        UserError: that runtime cannot run it.
    """
    rules = Rules.of(model)
    if to == "onnx-asr":
        check_fit(model, processor)
    silenced = silenced_by(rules, model.config.vocab_size) if to == "onnx-asr" else None
    caches = caches_of(model)
    inputs = [f"past_key_values.{cache.name}" for cache in caches]
    encoder = OnnxGraph(
        name=ENCODER,
        sizes={"input_features": {0: "batch"}},
        outputs=("last_hidden_state",),
        wrap=AudioEncoder,
        example={"input_features": features_of(noise((1.3, 0.7), rate_of(processor)), processor)["input_features"]},
        trials=partial(encoder_trials, model, processor),
    )
    decoder = OnnxGraph(
        name=DECODER,
        sizes={
            "input_ids": {0: "batch", 1: "tokens"},
            "encoder_hidden_states": {0: "batch"},
            "use_cache_branch": {},
            **{
                name: {0: "past_batch", 2: "past_frames" if cache.of_audio else "past_tokens"}
                for name, cache in zip(inputs, caches, strict=True)
            },
        },
        outputs=("logits", *(f"present.{cache.name}" for cache in caches)),
        wrap=lambda copied: CachedDecoder(copied, caches, silenced),
        example={
            "input_ids": torch.ones(2, 4, dtype=torch.long),
            "encoder_hidden_states": torch.zeros(2, model.config.max_source_positions, model.config.d_model),
            "use_cache_branch": torch.tensor([False]),
            **{
                name: torch.zeros(2, cache.heads, 5 if cache.of_audio else 3, cache.head_dim)
                for name, cache in zip(inputs, caches, strict=True)
            },
        },
        trials=partial(trials, model, processor, caches, silenced),
    )
    extractor = processor.feature_extractor  # type: ignore[attr-defined]
    described = {
        "family": "whisper",
        "inputs": ["input_features", "input_ids", "encoder_hidden_states", "use_cache_branch", "past_key_values.*"],
        "outputs": ["last_hidden_state", "logits", "present.*"],
        "rules": asdict(rules),
        "sampling_rate": rate_of(processor),
        "mel_bands": extractor.feature_size,
        "mel_frames": 2 * model.config.max_source_positions,
        "positions": model.config.max_source_positions,
        "dim": model.config.d_model,
        "labels": model.config.vocab_size,
    }
    return Layout((encoder, decoder), described, files_beside(model, processor) if to == "onnx-asr" else {})


class AudioEncoder(nn.Module):
    """The encoder: one window's features (batch, mel bands, frames) to hidden states (batch, positions, dim)."""

    def __init__(self, model: Any):
        super().__init__()
        self.encoder = model.model.encoder

    def forward(self, input_features: Tensor) -> Tensor:
        return self.encoder(input_features).last_hidden_state


@torch.no_grad()
def encoder_trials(model: Any, processor: Any) -> Iterator[Trial]:
    """One for each batch of `CHECKED_SECONDS`."""
    for seconds in CHECKED_SECONDS:
        features = features_of(noise(seconds, rate_of(processor)), processor)["input_features"]
        hidden = model.model.encoder(features).last_hidden_state
        yield Trial({"input_features": features}, {"last_hidden_state": hidden})


def silenced_by(rules: Rules, labels: int) -> Tensor:
    """Suppressed labels, (2, labels) bool: at later positions of a text, and at its first."""
    silenced = torch.zeros(2, labels, dtype=torch.bool)
    silenced[:, list(rules.never)] = True
    silenced[1, list(rules.not_first)] = True
    return silenced


def check_fit(model: PreTrainedModel, processor: ProcessorMixin) -> None:
    """Raise OptionError where onnx-asr's own features (OpenAI's) or its length of texts do not fit the model."""
    extractor = processor.feature_extractor  # type: ignore[attr-defined]
    for name, value in {"sampling_rate": 16_000, "hop_length": 160, "n_fft": 400, "chunk_length": 30}.items():
        if (own := getattr(extractor, name)) != value:
            advice = f"its features have {name} {value} and the model's {own}: export to onnx"
            raise OptionError("to", "onnx-asr", advice)
    if extractor.feature_size not in (80, 128):
        advice = f"it computes 80 or 128 mel bands and the model takes {extractor.feature_size}: export to onnx"
        raise OptionError("to", "onnx-asr", advice)
    if (room := model.config.max_target_positions) < LONGEST_TEXT:
        advice = f"it generates up to {LONGEST_TEXT} tokens and the model has positions for {room}: export to onnx"
        raise OptionError("to", "onnx-asr", advice)


def files_beside(model: PreTrainedModel, processor: ProcessorMixin) -> dict[str, str]:
    """The files that onnx-asr reads beside the graphs, name -> text."""
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]
    added = tokenizer.get_added_vocab()
    known = tokenizer.get_vocab()
    taken = set(known.values())
    unused = {f"<|unused{label}|>": label for label in range(model.config.vocab_size) if label not in taken}
    files = {
        "vocab.json": {token: label for token, label in known.items() if token not in added},
        "added_tokens.json": added | unused,
        "config.json": {
            "model_type": "whisper",
            "num_mel_bins": processor.feature_extractor.feature_size,  # type: ignore[attr-defined]
        },
    }
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in files.items()}
