"""The tokens of a vocabulary that a language needs, and the tokenizer that has no others.

A byte-level byte-pair vocabulary spells every text: what is left of it does too, for the bytes stay. Texts that were
spelled in kept tokens are spelled in the same ones, because the merges that lead to them stay, in their order.
"""

import copy
import json
from collections.abc import Collection, Iterable
from typing import Any

import regex
from tokenizers import Tokenizer, pre_tokenizers

from trimbre.errors import UserError
from trimbre.plan import KeptTokens

NO_SIGN = regex.compile(r"[\p{L}\p{M}\ufffd]")
"""What has a letter, or is no whole character: digits, punctuation and symbols have neither."""
WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
"""A word without the quotes and brackets that it stands in, or half of one with a hyphen."""


def kept_tokens(tokenizer: Any, size: int, texts: Iterable[str], named: Collection[int] = ()) -> KeptTokens:
    """The tokens of a model's vocabulary that texts of its language need.

    These are the tokens that their words are spelled with, as they are written, in lower case and capitalised, with a
    space before them and without, whatever punctuation they stand in; those that these are merged from; all without a
    letter, such as digits and punctuation; all bytes; and all that are no text, such as special tokens and timestamps.

    Args:
        size: tokens of the model, some of which the tokenizer may have no name for.
        named: ids of tokens that stay in any case.

    Raises:
        UserError: the vocabulary is not made of bytes and of pairs merged from them.
    """
    described = _described(tokenizer)
    added = tokenizer.get_added_vocab()
    letters = {token: number for token, number in described["model"]["vocab"].items() if token not in added}
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    words = {word for text in texts for word in (*text.split(), *WORD.findall(text))}
    forms = {form for word in words for form in (word, word.lower(), word[:1].upper() + word[1:].lower())}
    backend = tokenizer.backend_tokenizer
    spaced = [f"{space}{form}" for form in sorted(forms) for space in ("", " ")]
    written = {token for one in backend.encode_batch(spaced, add_special_tokens=False) for token in one.tokens}
    signs = {token for token in letters if token and not NO_SIGN.search(_text(backend, token))}
    needed = _with_parts(described, (written | signs | alphabet) & letters.keys())
    gone = {number for token, number in letters.items() if token not in needed} - set(named)
    return KeptTokens(size, tuple(number for number in range(size) if number not in gone))


def smaller_tokenizer(tokenizer: Any, kept: KeptTokens) -> Any:
    """A copy of a tokenizer that has the kept tokens alone, by their new ids.

    Raises:
        UserError: its vocabulary is of another kind, or the ids of its special tokens have gaps.
    """
    described = _described(tokenizer)
    renumbered = kept.renumbered
    model = described["model"]
    vocabulary = {token: renumbered[number] for token, number in model["vocab"].items() if number in renumbered}
    merges = [pair for pair in map(tuple, model["merges"]) if {*pair, "".join(pair)} <= vocabulary.keys()]
    model |= {"vocab": vocabulary, "merges": merges}
    for token in described["added_tokens"]:
        token["id"] = renumbered[token["id"]]
    for token in (described["post_processor"] or {}).get("special_tokens", {}).values():
        token["ids"] = [renumbered[number] for number in token["ids"]]
    made = copy.deepcopy(tokenizer)
    made._tokenizer = Tokenizer.from_str(json.dumps(described))
    made._vocab, made._merges = vocabulary, merges
    expected = {token: renumbered[number] for token, number in tokenizer.get_vocab().items() if number in renumbered}
    if made.get_vocab() != expected:
        raise UserError("the ids of the tokenizer's special tokens have gaps, which a smaller vocabulary cannot keep")
    return made


def smaller_processor(processor: Any, kept: KeptTokens) -> Any:
    """A processor with the same features whose tokenizer has the kept tokens alone; the argument stays as it was."""
    made = copy.copy(processor)
    made.tokenizer = smaller_tokenizer(processor.tokenizer, kept)
    return made


def _described(tokenizer: Any) -> dict[str, Any]:
    """A tokenizer as `tokenizer.json` has it; raises UserError unless it is a byte-level byte-pair one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    model = described.get("model", {})
    if model.get("type") != "BPE" or not set(pre_tokenizers.ByteLevel.alphabet()) <= set(model["vocab"]):
        raise UserError(
            f"its tokenizer, a {type(tokenizer).__name__}, is not made of bytes and of pairs merged from them, so that "
            "texts could not be spelled without some of its tokens"
        )
    return described


def _text(backend: Any, token: str) -> str:
    """A token as text, with a replacement character for bytes that are only part of a character."""
    return str(backend.decoder.decode([token]))


def _with_parts(described: dict[str, Any], tokens: set[str]) -> set[str]:
    """Tokens and those that they are merged from, down to bytes."""
    parts: dict[str, set[str]] = {}
    for pair in described["model"]["merges"]:
        parts.setdefault("".join(pair), set()).update(pair)
    found: set[str] = set()
    waiting = list(tokens)
    while waiting:
        if (token := waiting.pop()) not in found:
            found.add(token)
            waiting += parts.get(token, ())
    return found
