"""Transcripts as they are compared: the same normalisation on both sides, and spelled as a model was taught."""

import re
import unicodedata
from functools import cache
from typing import Any

from num2words import num2words

from trimbre.errors import UserError

NORMALISERS = ("none", "basic", "whisper-en")


def normalise(text: str, how: str = "basic", *, language: str = "en") -> str:
    """Bring a transcript into the form in which it's compared and learned.

    `none` leaves it; `basic` lower-cases, spells out numbers and drops punctuation except apostrophes within words;
    `whisper-en` is Whisper's English normaliser.

    Raises:
        UserError: `how` is none of these.
    """
    if how == "none":
        return text
    if how == "whisper-en":
        return _whisper()(text)
    if how != "basic":
        raise UserError(f"--normalize {how}: choose one of {', '.join(NORMALISERS)}")
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"\d+", lambda digits: f" {num2words(int(digits[0]), lang=language)} ", text)
    text = re.sub(r"[^\w\s']|_", " ", text)
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    return " ".join(text.split())


@cache
def _whisper() -> Any:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})
