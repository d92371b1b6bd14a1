"""Export of Whisper: an encoder for one window, and a decoder with caches that is called for every token.

Files, inputs and outputs have the names that Optimum gave them and onnx-asr reads.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.errors import OptionError
from trimbre.exporting.targets import Layout, OnnxGraph, Trial, noise
from trimbre.exporting.whisper_decoder import CachedDecoder, caches_of, trials
from trimbre.exporting.whisper_runtime import by_rules
from trimbre.models.heads.generation import GenerationRules, refuse_other_search
from trimbre.models.inputs import features_of, rate_of

ENCODER, DECODER = "encoder_model", "decoder_model_merged"
CHECKED_SECONDS = ((0.1,), (3.7, 1.2), (11.3, 0.6, 2.5))
"""Batches that the encoder is compared on, by the lengths of their clips in seconds."""
CHECKED_TEXT = 64
"""Tokens of each text that is compared with the model's, at most."""
LONGEST_TEXT = 448
"""Tokens that onnx-asr generates at most, whatever the model's own limit."""


def layout(
    to: str,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    language: str | None = None,
    task: str | None = None,
) -> Layout:
    """The layout of a Whisper for the runtime `to`.

    Raises:
        UserError: that runtime cannot run it, or not by the rules of its generation config.
        OptionError: the model cannot be given that language or task.
    """
    rules = GenerationRules.of(model, processor)
    rules = rules.preset(*rules.checked(language, task))
    refuse_other_search(model, "an exported one")
    if to == "onnx-asr":
        check_fit(model, processor)
        check_rules(rules)
    silenced = silenced_by(rules, model.config.vocab_size) if to == "onnx-asr" else None
    most = rules.most(len(rules.prompt()))
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
        wrap=lambda copied: CachedDecoder(copied, caches, silenced, most),
        example={
            "input_ids": torch.ones(2, 4, dtype=torch.long),
            "encoder_hidden_states": torch.zeros(2, model.config.max_source_positions, model.config.d_model),
            "use_cache_branch": torch.tensor([False]),
            **{
                name: torch.zeros(2, cache.heads, 5 if cache.of_audio else 3, cache.head_dim)
                for name, cache in zip(inputs, caches, strict=True)
            },
        },
        trials=partial(trials, model, processor, caches, silenced, most),
    )
    extractor = processor.feature_extractor  # type: ignore[attr-defined]
    described = {
        "family": "whisper",
        "inputs": ["input_features", "input_ids", "encoder_hidden_states", "use_cache_branch", "past_key_values.*"],
        "outputs": ["last_hidden_state", "logits", "present.*"],
        "rules": rules.to_json(),
        "sampling_rate": rate_of(processor),
        "mel_bands": extractor.feature_size,
        "mel_frames": 2 * model.config.max_source_positions,
        "positions": model.config.max_source_positions,
        "dim": model.config.d_model,
        "labels": model.config.vocab_size,
    }
    files = files_beside(model, processor) if to == "onnx-asr" else {}
    return Layout((encoder, decoder), described, partial(first_gap, model), files)


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


def silenced_by(rules: GenerationRules, labels: int) -> Tensor:
    """Suppressed labels, (4, labels) bool: at later positions of a text, at its first, where the language is detected,
    and where the longest text ends.
    """
    silenced = torch.zeros(4, labels, dtype=torch.bool)
    silenced[:2, list(rules.never)] = True
    silenced[1, list(rules.not_first)] = True
    preset = rules.prompt()[1]
    silenced[2:] = True
    silenced[2, list(rules.languages.values()) if preset is None else [preset]] = False
    silenced[3, rules.end] = False
    return silenced


def check_rules(rules: GenerationRules) -> None:
    """Raise OptionError where onnx-asr, which knows one form of prompt and no rules, would write other texts."""
    if rules.task == "translate":
        raise OptionError("task", rules.task, "onnx-asr only transcribes: export to onnx")
    prompt = rules.prompt()
    if len(prompt) != 4 or prompt[2:] != (rules.tasks.get("transcribe"), rules.untimed):
        advice = "it begins every text with a language, the task and no times, and this model's texts begin otherwise: "
        raise OptionError(
            "to", "onnx-asr", advice + ("give a task, or " if rules.multilingual else "") + "export to onnx"
        )
    for name, plain in (("repetition_penalty", 1), ("no_repeat_ngram_size", 0)):
        if (value := getattr(rules, name)) != plain:
            advice = f"the model's generation config asks for {name}={value:g}, which it does not do: export to onnx"
            raise OptionError("to", "onnx-asr", advice)


@torch.no_grad()
def first_gap(model: Any, exported: Any, inputs: Mapping[str, Tensor]) -> float | None:
    """How far apart two tokens are for the model where its text and that of the exported model begin to differ.

    Args:
        exported: its `ExportedWhisper`.
        inputs: one window, (1, mel bands, frames).

    Returns:
        The difference of the two tokens' scores, relative to the largest score; None for equal texts.
    """
    features = inputs["input_features"]
    own: GenerationRules = exported.generation_config
    config = own.config(model.generation_config, None, None)
    if None in own.prompt():
        ours = int(model.detect_language(features, generation_config=config))
        theirs = int(exported.detect_language(features))
        if ours != theirs:
            scores = model(features, decoder_input_ids=torch.tensor([[own.start]])).logits[0, -1]
            return _gap(scores, ours, theirs)
        own = own.decided(ours)
    prompt = [token for token in own.prompt() if token is not None]
    rules = replace(own, max_new_tokens=min(CHECKED_TEXT, own.most(len(prompt)) - len(prompt)))
    config = rules.config(model.generation_config, None, None)
    mask = torch.ones(features.shape[::2], dtype=torch.long)
    tokens = model.generate(features, attention_mask=mask, generation_config=config)[0].tolist()
    found = exported.generate(features, generation_config=rules)[0].tolist()
    pairs = enumerate(zip_longest(tokens, found, fillvalue=rules.end))
    differing = next(((place, *pair) for place, pair in pairs if pair[0] != pair[1]), None)
    if differing is None:
        return None
    same, one, other = differing
    text = torch.tensor([[*prompt, *tokens[:same]]])
    scores = model(features, decoder_input_ids=text).logits[:, -1]
    return _gap(by_rules(rules, text, scores, len(prompt))[0], one, other)


def _gap(scores: Tensor, one: int, other: int) -> float:
    """How far apart two labels' scores are, relative to the largest of all."""
    return float((scores[one] - scores[other]).abs() / scores[scores.isfinite()].abs().max())


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
