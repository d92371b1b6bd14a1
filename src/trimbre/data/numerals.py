"""Digits as words, by num2words, in the languages that it knows.

What is spoken cannot always be told from what is written. One reading is taken always: 1100 to 1999 and 2010 to 2099
without a separator are years, by hundreds, in English and German; numbers that begin with 0 are read digit by digit.
"""

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache

from num2words import CONVERTER_CLASSES, num2words

from trimbre.data.language import SPACELESS

DECIMAL_POINT = ("am", "ar", "bn", "cy", "en", "fa", "he", "ja", "kn", "ko", "te", "th")
"""Languages that write 3.5 and 1,234; the others that num2words knows write 3,5 and 1.234."""
NAMES = {"kk": "kz"}
"""num2words' names of languages, where they are others."""
ORDINALS = {
    "en": {"st": "", "nd": "", "rd": "", "th": ""},
    "es": {"º": "", "ª": "a"},
    "fr": {"ère": "ère", "ème": "", "eme": "", "er": "", "re": "ère", "nd": "", "e": ""},
    "it": {"º": "", "ª": "a"},
    "nl": {"ste": "", "de": "", "e": ""},
    "pt": {"º": "", "ª": "a"},
}
"""What follows the digits of an ordinal -> the ending of its feminine form, where it is one."""
PERCENT = {
    "de": "prozent",
    "en": "percent",
    "es": "por ciento",
    "fr": "pour cent",
    "it": "per cento",
    "nl": "procent",
    "pt": "por cento",
}
CURRENCIES = {"$": "dollar", "£": "pound", "€": "euro"}
"""Signs that are read in English; in other languages they are dropped."""
BY_HUNDREDS = ("de", "en")
YEARS = (*range(1100, 2000), *range(2010, 2100))
POINTS = {"ar": "فاصلة", "bn": "দশমিক", "cy": "pwynt", "it": "virgola", "tr": "virgül", "vi": "phẩy"}
"""Decimal points in words, where num2words reads another number."""
NUMBER = r"\d+(?:[.,]\d+)*"


def in_words(text: str, language: str) -> str:
    """A text in lower case with its digits (0 to 9) in words; unchanged where num2words does not know the language."""
    name = NAMES.get(language, language)
    if name not in CONVERTER_CLASSES:
        return text
    gap = "" if language in SPACELESS else " "
    if language == "en":
        text = re.sub(rf"([$£€])\s?({NUMBER})( (?:hundred|thousand|[mbtr]+illion))?(?!\w|[.,]\d)", _amount, text)
    if language in PERCENT:
        text = re.sub(r"(?<=\d)\s?%", f" {PERCENT[language]} ", text)
    endings = "|".join([*ORDINALS.get(language, ()), *(["'?s"] if language == "en" else [])])
    ending = rf"(?:({endings})(?!\w))?" if endings else "()"

    def said(found: re.Match[str]) -> str:
        words = _said(found, name=name, language=language, gap=gap)
        elided = re.search(r"[^\W\d]'$", text[: found.start()][-2:])  # l'11, which is one word
        return words.lstrip() if elided else words

    return re.sub(f"({NUMBER}){ending}", said, text)


def _amount(found: re.Match[str]) -> str:
    """`$5` -> `5 dollars`, `$2.01` -> `2 dollars and 1 cent`, `$2.5 million` -> `2.5 million dollars`."""
    sign, number, more = found[1], found[2], found[3] or ""
    one = CURRENCIES[sign]
    whole, _, part = number.partition(".")
    if not more and len(part) == 2:
        small = ("penny", "pence") if sign == "£" else ("cent", "cents")
        parts = ((whole, (one, f"{one}s")), (part.removeprefix("0"), small))
        said = [f"{value} {names[value != '1']}" for value, names in parts if value != "0"]
        return f" {' and '.join(said) or f'0 {one}s'}"
    return f" {number}{more} {one if number == '1' and not more else f'{one}s'}"


def _said(found: re.Match[str], *, name: str, language: str, gap: str) -> str:
    number, ending = found[1], found[2]
    point, comma = (".", ",") if language in DECIMAL_POINT else (",", ".")
    grouped = re.fullmatch(rf"\d{{1,3}}(?:{re.escape(comma)}\d{{3}})+(?:{re.escape(point)}\d+)?", number)
    plain = number.replace(comma, "") if grouped else number
    whole, _, part = plain.partition(point)
    if not whole.isdigit() or (part and not part.isdigit()):  # a date, a version, an address
        return gap.join(["", *(_whole(one, name) for one in re.split("[.,]", number)), ending or "", ""])
    if part:
        apart = gap.join((_whole(whole, name), POINTS.get(language, ""), _digits(part, name)))
        said = apart if language in POINTS else _words(Decimal(f"{whole}.{part}"), name) or apart
        return f"{gap}{said}{gap}{ending or ''}"
    if ending == "s" or (ending == "'s" and whole[-1] == "0"):  # the 1990's, but what is 1999's
        return f"{gap}{_plural(_years(whole, name, language))}{gap}"
    endings = ORDINALS.get(language, {})
    if ending in endings and (ordinal := _words(int(whole), name, "ordinal")):
        return f"{gap}{_feminine(ordinal, endings[ending])}{gap}"
    read = _whole(whole, name) if grouped else _years(whole, name, language)
    between = "" if (ending or "").startswith("'") else gap
    return f"{gap}{read}{between}{ending or ''}"


def _years(digits: str, name: str, language: str) -> str:
    """A number of four digits as a year where it may be one."""
    if language in BY_HUNDREDS and len(digits) == 4 and int(digits) in YEARS:
        return _words(int(digits), name, "year") or _whole(digits, name)
    return _whole(digits, name)


def _whole(digits: str, name: str) -> str:
    if len(digits) > 1 and digits[0] == "0":
        return _digits(digits, name)
    return _words(int(digits), name) or _digits(digits, name)


def _digits(digits: str, name: str) -> str:
    return " ".join(_words(int(digit), name) or digit for digit in digits)


def _plural(words: str) -> str:
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}es" if words.endswith("x") else f"{words}s"


def _feminine(ordinal: str, ending: str) -> str:
    """An ordinal with another ending, if there is one."""
    return re.sub("(?:o|er)$", ending, ordinal) if ending else ordinal


@lru_cache(maxsize=10_000)
def _words(number: int | Decimal, name: str, kind: str = "cardinal") -> str | None:
    """The name of a number in lower case; None where num2words has none."""
    try:
        said = num2words(number, lang=name, to=kind)
    except Exception:  # too long, or a kind that this language lacks: each of its converters fails in its own way
        return None
    if not isinstance(said, str) or not said or any(map(str.isdigit, said)):
        return None
    return unicodedata.normalize("NFKC", said.lower())
