"""Tiny random Whispers whose tokenizers know words, those of several languages, and not bytes alone."""

import copy
import json
from functools import cache

import torch
from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    PreTrainedModel,
    ProcessorMixin,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from helpers.families import END, FAMILIES, WHISPER_SPECIAL, shaken

ENGLISH = "The cat sat on the mat. It's 10:45, they said, in 1998!"
GERMAN = "Die Katze saß auf der Matte, sagten sie; übermorgen ist Mittwoch."
JAPANESE = "猫がマットの上に座っていた。"
WORDS = 120
"""Tokens of several bytes, at most."""


@cache
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens with their ids, bytes first, and the pairs that they are merged from."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = [text for text in (ENGLISH, f" {ENGLISH}", GERMAN, f" {GERMAN}", JAPANESE) for _ in range(3)]
    trainer = trainers.BpeTrainer(vocab_size=END + WORDS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    described = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in described["merges"]]
    tokens = dict.fromkeys([*alphabet, *("".join(pair) for pair in merges)])
    return {token: number for number, token in enumerate(tokens)}, merges


def wordy_processor() -> ProcessorMixin:
    tokens, merges = vocabulary()
    end = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), WHISPER_SPECIAL[0])
    tokenizer = WhisperTokenizer(vocab=dict(tokens), merges=merges, extra_special_tokens=WHISPER_SPECIAL[1:], **end)
    tokenizer.add_tokens([f"<|{hundredths / 100:.2f}|>" for hundredths in range(0, 201, 2)])
    return WhisperProcessor(WhisperFeatureExtractor(chunk_length=2), tokenizer)


def wordy(name: str) -> PreTrainedModel:
    """The tiny model of a family of Whispers, with rows for these words before its special tokens."""
    words = len(vocabulary()[0]) - END
    torch.manual_seed(0)
    plain = FAMILIES[name].build()
    config, generation = copy.deepcopy(plain.config), copy.deepcopy(plain.generation_config)

    def moved(token: int | None) -> int | None:
        return token + words if token is not None and token >= END else token

    config.vocab_size += words
    for settings in (config, generation):
        for field in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"):
            setattr(settings, field, moved(getattr(settings, field)))
    generation.no_timestamps_token_id += words
    generation.prev_sot_token_id += words
    generation.suppress_tokens = list(map(moved, generation.suppress_tokens))
    for field in ("lang_to_id", "task_to_id"):
        if table := getattr(generation, field, None):
            setattr(generation, field, {key: moved(token) for key, token in table.items()})
    if forced := getattr(generation, "forced_decoder_ids", None):
        generation.forced_decoder_ids = [[place, moved(token)] for place, token in forced]
    model = shaken(WhisperForConditionalGeneration(config))
    model.generation_config = generation
    return model
