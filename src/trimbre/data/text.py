"""Text normalisation of transcripts, and their spelling in the tokens of a model."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import regex

from trimbre.config import NORMALISERS
from trimbre.data.numerals import in_words
from trimbre.data.open_asr import americanised, open_asr
from trimbre.errors import OptionError, one_of

APOSTROPHES = dict.fromkeys(map(ord, "’‘‛´`ʼʻʹ′＇׳"), "'")
"""Signs that are written for an apostrophe."""
INVISIBLE = r"[\p{Cf}\p{Me}\u034f\ufe00-\ufe0f]"
"""Soft hyphens, joiners, byte order marks, directions, variants of emoji."""
OPTIONAL = r"[\u064b-\u0652\u0670\u0640\u06d6-\u06ed\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]"
"""Vowel signs of Arabic and Hebrew, which most writers leave out, and the Arabic stretching stroke."""
NOISES = (
    "laugh giggl chuckl cough sneez sniff sigh breath inhal exhal gasp groan crying sobbing yawn humming throat noise "
    "music applau clap cheering inaudible unintelligible indistinct crosstalk silence pause beep clicks? static lachen "
    "lacht gelächter husten räusper seufz geräusch musik stille unverständlich rires? toux soupir bruit musique risas? "
    "tos ruido música aplauso silencio suspiro riso risate ruído silêncio gelach hoest смех кашель шум музыка 笑 拍手 "
    "音楽 咳 掌声 音乐 噪音"
).split()
"""How words for noises begin: these tell a noise in round brackets or asterisks from an aside, which is spoken."""
NOISE = rf"(?:[\w'-]+ ){{0,3}}(?:{'|'.join(NOISES)})[\w'-]*(?: [\w'-]+){{0,2}}"
BRACKETED = regex.compile(rf"\[[^\[\]]*\]|【[^【】]*】|\{{[^{{}}]*\}}|<(?!\s)[^<>]*>|\(\s*{NOISE}\W*\)|\*{NOISE}\*")
ENGLISH = ("whisper-en", "open-asr")
"""Normalisers that are for English alone."""
WORD = r"[\p{L}\p{M}\p{N}]"


def normalise(
    text: str, how: str = "basic", *, language: str | None = None, spelling: Mapping[str, str] | None = None
) -> str:
    """Normalise a transcript, for training and for error rates.

    Args:
        how: `none` leaves it as it is; `basic` lower-cases, spells out numbers and drops punctuation except apostrophes
            within words; `whisper` and `whisper-en` are Whisper's normalisers, for all languages and for English;
            `open-asr` is the Open ASR Leaderboard's, for English.
        language: code of the language, in which `basic` spells numbers; digits stay where it is None or num2words does
            not know it.
        spelling: British words -> American ones, for `whisper-en`; those of OpenAI's normaliser by default.

    Raises:
        OptionError: `how` is none of these.
    """
    one_of("normalize", how, NORMALISERS)
    if how == "none":
        return text
    if how == "basic":
        return _basic(text, language)
    if how == "open-asr":
        return open_asr(text)
    return _whisper(text) if how == "whisper" else _whisper_en(text, spelling)


def are_same(text: str, other: str) -> bool:
    """Whether two transcripts differ in case, spaces and punctuation alone."""
    first, second = (normalise(one).replace(" ", "").replace("'", "") for one in (text, other))
    return first == second


def spelling_of(processor: Any) -> Mapping[str, str] | None:
    """The words that a Whisper's own `normalizer.json` spells otherwise; None for a model without one."""
    return getattr(getattr(processor, "tokenizer", None), "english_spelling_normalizer", None)


def refuse_foreign(normalize: str, languages: Iterable[str | None], *, name: str) -> None:
    """Raise OptionError where an English normaliser is to read another language.

    Args:
        languages: codes of the languages of the texts.
        name: of the data, for messages.
    """
    others = sorted({language for language in languages if language not in (None, "en")})  # type: ignore[type-var]
    if normalize in ENGLISH and others:
        advice = f"it is for English, and {name} is in {', '.join(map(str, others))}: choose basic or whisper"
        raise OptionError("normalize", normalize, advice)


def _basic(text: str, language: str | None) -> str:
    text = regex.sub(r"(?<=\d)[\u00a0\u202f\u2009'’](?=\d{3}(?!\d))", "", text)  # 1 234 and 1'234, with no plain space
    text = regex.sub(r"(?<=\d)\.?([ºª])", r"\1", text.translate(APOSTROPHES)).replace("\u200b", " ")
    text = _compatible(regex.sub(INVISIBLE, "", text))
    if language in ("az", "tr"):
        text = text.replace("I", "ı").replace("İ", "i")
    text = text.lower() if language == "lt" else text.lower().replace("i\u0307", "i")  # of İ
    shorter = ""
    while text != shorter:  # one in another
        shorter, text = text, BRACKETED.sub(" ", text)
    if language is not None:
        text = in_words(text, language)
    text = regex.sub(r"(?<=\p{Hebrew})[\"״](?=\p{Hebrew})", "", regex.sub(OPTIONAL, "", text))
    text = regex.sub(rf"(?:(?!{WORD}|\s|').)|(?<!{WORD})\p{{M}}+", " ", text)
    text = regex.sub(rf"(?<!{WORD})'|'(?!{WORD})", " ", text)
    return " ".join(text.split())


def _compatible(text: str) -> str:
    """The text in Unicode's compatible form, but for º and ª after digits, and with all digits as 0 to 9."""
    text = regex.sub(r"(?<=\p{Nd})(?=\p{No})|(?<=\p{No})(?=\p{Nd})", " ", text)  # 10² is not 102, nor 2½ 21/2
    parts = regex.split(r"(?<=\d)([ºª])", text)
    joined = "".join(part if part in ("º", "ª") else unicodedata.normalize("NFKC", part) for part in parts)
    joined = joined.replace("٫", ".").replace("٬", ",")  # Arabic decimal and thousands separators
    return regex.sub(r"\p{Nd}", lambda digit: str(unicodedata.decimal(digit[0])), joined)


def labels_of(text: str, *, processor: Any, normalize: str, language: str | None = None) -> list[int]:
    """Token ids of a transcript, normalised in its language, in capitals where the vocabulary has only these."""
    tokenizer = processor.tokenizer
    text = normalise(text, normalize, language=language, spelling=spelling_of(processor))
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

    Normalised text is compared without case, so that an upper-case vocabulary spells it. Those for English write
    numbers as digits, which a model that writes words does not need: there, text normalised by `basic` is checked.

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


@cache
def _whisper_of(spelling: tuple[tuple[str, str], ...] | None) -> Any:
    """Whisper's normaliser of English with a spelling, or that of all languages."""
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    return BasicTextNormalizer() if spelling is None else EnglishTextNormalizer(dict(spelling))


def _whisper(text: str) -> str:
    return str(_whisper_of(None)(text)).strip()


def _whisper_en(text: str, spelling: Mapping[str, str] | None) -> str:
    return str(_whisper_of(americanised() if spelling is None else tuple(spelling.items()))(text)).strip()
