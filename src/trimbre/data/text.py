"""Text normalisation of transcripts, and their spelling in the tokens of a model."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache, partial
from typing import Any

from num2words import CONVERTER_CLASSES, num2words

from trimbre.config import NORMALISERS
from trimbre.errors import one_of


def normalise(text: str, how: str = "basic", *, language: str | None = None) -> str:
    """Normalise a transcript, for training and for error rates.

    Args:
        how: `none` leaves it as it is; `basic` lower-cases, spells out numbers and drops punctuation except apostrophes
            within words; `whisper-en` is Whisper's English normaliser.
        language: in which `basic` spells numbers; None leaves digits.

    Raises:
        OptionError: `how` is none of these.
    """
    one_of("normalize", how, NORMALISERS)
    if how == "none":
        return text
    if how == "whisper-en":
        return _whisper()(text)
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    if language is not None and language in CONVERTER_CLASSES:
        text = re.sub(r"\d+", partial(_number, language=language), text)
    text = re.sub(r"[^\w\s']|_", lambda sign: sign[0] if _is_mark(sign[0]) else " ", text)
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    return " ".join(text.split())


def labels_of(text: str, *, processor: Any, normalize: str, language: str | None = None) -> list[int]:
    """Token ids of a transcript, normalised in its language, in capitals where the vocabulary has only these."""
    tokenizer = processor.tokenizer
    text = normalise(text, normalize, language=language)
    ids = tokenizer(text).input_ids
    if tokenizer.unk_token_id == tokenizer.eos_token_id:  # its tokens are bytes: nothing is unknown
        return ids
    unknown = ids.count(tokenizer.unk_token_id)
    if unknown and normalize != "none":
        capitals = tokenizer(text.upper()).input_ids
        if capitals.count(tokenizer.unk_token_id) < unknown:
            return capitals
    return ids


def unspellable_characters(texts: Iterable[tuple[str, str | None]], *, processor: Any, normalize: str) -> Counter[str]:
    """Count the characters that the tokenizer does not decode to themselves.

    Normalised text is compared without case, so that an upper-case vocabulary spells it. `whisper-en` writes numbers as
    digits, which a model that writes words does not need: there, text normalised by `basic` is checked.

    Args:
        texts: transcripts, each with the code of its language.
    """
    how = "none" if normalize == "none" else "basic"
    plain = (normalise(text, how, language=language) for text, language in texts)
    seen = Counter(character for text in plain for character in text if not character.isspace())
    tokenizer = processor.tokenizer

    def spelled(character: str) -> bool:
        ids = tokenizer(character, add_special_tokens=False).input_ids
        return tokenizer.decode(ids, group_tokens=False).strip() == character

    def spellable(character: str) -> bool:
        forms = {character} if normalize == "none" else {character, character.upper(), character.lower()}
        return any(spelled(form) for form in forms)

    return Counter({character: count for character, count in seen.items() if not spellable(character)})


def _number(found: re.Match[str], *, language: str) -> str:
    digits = found[0]
    try:
        return f" {num2words(int(digits), lang=language)} "
    except (OverflowError, ValueError):  # too long to have a name: digit by digit
        return f" {' '.join(num2words(int(digit), lang=language) for digit in digits)} "


def _is_mark(character: str) -> bool:
    """Whether a character belongs to the letter before it, as vowel signs of Indic scripts do; `re` says no word."""
    return unicodedata.category(character).startswith("M")


@cache
def _whisper() -> Any:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})
