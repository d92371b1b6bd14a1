"""What an error rate counts: words, and characters where a language is written without spaces."""

from collections.abc import Sequence
from typing import Literal

import regex

from trimbre.data.language import SPACELESS

Rate = Literal["wer", "cer", "mer"]
UNITS: dict[Rate, str] = {"wer": "words", "cer": "characters", "mer": "words and characters"}
"""What each rate counts; a mixed one counts words in some utterances and characters in others."""
SCRIPTS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"


def by_characters(references: Sequence[str], languages: Sequence[str | None]) -> tuple[bool, ...]:
    """Whether each utterance is judged by characters: by its language, or by the script of most of its letters.

    An empty transcript of no known language is judged as the others are.
    """
    found = [_spaceless(text, language) for text, language in zip(references, languages, strict=True)]
    known = [one for one in found if one is not None]
    others = bool(known) and all(known)
    return tuple(others if one is None else one for one in found)


def deciding_rate(characters: Sequence[bool]) -> Rate:
    """The rate that decides on utterances, each of which is judged by characters or not."""
    return "cer" if characters and all(characters) else "mer" if any(characters) else "wer"


def _spaceless(text: str, language: str | None) -> bool | None:
    if language in SPACELESS:
        return True
    letters = regex.findall(r"\p{L}", text)
    if not letters:
        return None if language is None else False
    return 2 * len(regex.findall(SCRIPTS, "".join(letters))) > len(letters)
