"""Removing rows of a model's vocabulary: of its embedding and its projection, and the tokens that its configs name."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from trimbre.models.heads.generation import is_multilingual
from trimbre.plan import KeptTokens

SINGLE = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "sep_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "no_timestamps_token_id",
    "prev_sot_token_id",
)
"""Settings that name one token, or a list of those that serve alike."""
SUPPRESSED = ("suppress_tokens", "begin_suppress_tokens")
"""Settings that list tokens which are not to be written: those that are gone never are."""
TABLES = ("lang_to_id", "task_to_id")
"""Settings that map names to tokens."""


def named_tokens(model: Any) -> set[int]:
    """Ids of the tokens that a model's configs name for a purpose, which have to stay."""
    return {
        token
        for settings in (model.config, model.generation_config)
        for token in _named(settings)
        if isinstance(token, int) and 0 <= token < model.config.vocab_size
    }


def _named(settings: Any) -> Iterator[Any]:
    for name in SINGLE:
        value = getattr(settings, name, None)
        yield from value if isinstance(value, list) else [value]
    for name in TABLES:
        yield from (getattr(settings, name, None) or {}).values()
    yield from (token for _, token in getattr(settings, "forced_decoder_ids", None) or ())


@torch.no_grad()
def remove_rows(model: Any, kept: KeptTokens) -> None:
    """Keep the rows of the `kept` tokens alone, in place, and renumber what the configs name.

    What the model is told to be stays: whether it is multilingual was read off the size of its vocabulary where its
    generation config does not say.
    """
    stated = is_multilingual(model.generation_config, model.config)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    rows = _rows(embedding.weight, kept)
    tied = head.weight is embedding.weight
    head.weight = rows if tied else _rows(head.weight, kept)
    if head.bias is not None:
        head.bias = _rows(head.bias, kept)
    embedding.weight = rows
    embedding.num_embeddings = head.out_features = len(kept.kept)
    renumbered = kept.renumbered
    for module in model.modules():
        if getattr(module, "padding_idx", None) is not None:
            module.padding_idx = renumbered[module.padding_idx]
    model.config.vocab_size = len(kept.kept)
    for settings in (model.config, model.generation_config):
        _renumber(settings, renumbered)
    model.generation_config.is_multilingual = stated


def _rows(weight: nn.Parameter, kept: KeptTokens) -> nn.Parameter:
    index = torch.tensor(kept.kept, device=weight.device)
    return nn.Parameter(weight.detach().index_select(0, index), weight.requires_grad)


def _renumber(settings: Any, renumbered: dict[int, int]) -> None:
    """Put ids after the cut in the place of those before it; phrases with tokens that are gone leave with them."""

    def new(token: Any) -> Any:
        return renumbered.get(token, token)

    def whole(tokens: Any) -> bool:
        return all(token in renumbered for token in tokens)

    found: dict[str, Any] = {}
    for name in SINGLE:
        value = getattr(settings, name, None)
        found[name] = list(map(new, value)) if isinstance(value, list) else new(value)
    for name in SUPPRESSED:
        value = getattr(settings, name, None)
        found[name] = value and [renumbered[token] for token in value if token in renumbered]
    for name in TABLES:
        value = getattr(settings, name, None)
        found[name] = value and {key: new(token) for key, token in value.items()}
    forced = getattr(settings, "forced_decoder_ids", None)
    found["forced_decoder_ids"] = forced and [[place, new(token)] for place, token in forced]
    words = getattr(settings, "bad_words_ids", None)
    found["bad_words_ids"] = words and ([list(map(new, tokens)) for tokens in words if whole(tokens)] or None)
    biased = getattr(settings, "sequence_bias", None)
    biased = biased.items() if isinstance(biased, dict) else biased
    found["sequence_bias"] = biased and [[list(map(new, tokens)), bias] for tokens, bias in biased if whole(tokens)]
    for name, value in found.items():
        if value is not None:
            setattr(settings, name, value)
        elif getattr(settings, name, None) is not None:
            setattr(settings, name, None)
