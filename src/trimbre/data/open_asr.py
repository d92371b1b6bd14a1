"""The text normaliser of the Open ASR Leaderboard, for rates that compare with those published there.

The normaliser is OpenAI's for English, with the numbers unchanged, a corrected list of spellings, more fillers, and one
spelling for variants of names, acronyms and some compounds; as github.com/huggingface/open_asr_leaderboard has it since
June 2026. Figures that were published earlier had the corrected spellings at most.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

IGNORED = "ignore time segment in scoring"
"""Transcript of a segment that is not judged, in TED-LIUM."""
FILLERS = "hmm mm mhm mmm uh um ah aha ahh ahm eh ehehe em hm huh hum mhum uhm umm uhuh"
OWNERS = "it he she what that who here there how when where why this"
"""Words after which 's stands for is; after others it is a possessive."""
SPELLINGS = """
ok:okay kay:okay etcetera:etc mm:hmm archaeological:archeological archaeology:archeology cancellation:cancelation
cancellations:cancelations flyer:flier pummelled:pummeled pummelling:pummeling snowploughs:snowplows
travelogue:travelog travelogues:travelogs
"""
"""Words that are spelled otherwise than by OpenAI's list."""
KEPT = ("archeological", "cancelation", "cancelations", "travelog", "travelogs")
"""Words of OpenAI's list that are left as they are."""
NAMES = """
aaron:aron alfonso:alphonso alison:allison,alyson allen:alan,allan anne:ann anthony:antony arthur:artur brett:bret
brian:bryan bridget:bridgette caitlin:kaitlin,kaitlyn,katelyn carl:karl carol:carole,carrol,carroll
catherine:catharine,katherine,kathryn cathy:kathy charlie:charley,charly chris:kris christina:kristina
christopher:cristopher,kristopher colin:collin deborah:devorah dennis:denis dominic:dominick douglas:douglass
dylan:dillon eric:erick,erik fatima:fatimah frederick:frederik,fredrick gail:gayle gary:garry greg:gregg henry:henri
ivonne:yvonne jackie:jacky jamie:jaime jason:jayson jeff:geoff jeffrey:geoffrey,jeffery joanne:joane,joann john:jon
jonathan:johnathan,jonathon joseph:josef karen:caren,caryn,karin kelly:kelley,kelli,kellye kevin:kevan kristin:kristen
laurie:lori lawrence:laurence lee:leigh leslie:lesley lily:lilly linda:lynda lindsay:lindsey,linsey louis:lewis
lucas:lukas lynn:lynne mark:marc martin:martyn matthew:mathew mcarthur:macarthur mccarthy:macarthy,maccarthy
mccartney:macartney mcdonald:macdonald mcgowan:macgowan mcintosh:macintosh mcintyre:macintyre mckay:mackay
mckenzie:mackenzie mclean:maclean mcleod:macleod mcmillan:macmillan mcnamara:macnamara megan:meghan michael:micheal
michelle:michele miriam:myriam mohammed:mahomet,mohamad,mohamed,mohammad,mouhamad,mouhamed,muhamad,muhammad,muhammed
molly:mollie natalie:nathalie neil:neal nicholas:nicolas nicole:nikole patrick:patrik peter:pieter philip:phillip
rachel:rachael rajiv:rajeev rebecca:rebekah rob:robb robin:robyn roger:rodger ronda:rhonda russell:russel sally:sallie
sarah:sara sean:shaun,shawn shane:shayne sherry:cheri,sheri,sherrie simon:symon stacy:stacey,stacie steven:stephen
stuart:stewart susanne:suzanne teresa:theresa terry:terri thomas:tomas toby:tobey tony:toni tracy:tracey,tracie
veronica:veronika victor:viktor victoria:viktoria walter:walther yousef:yusef,yusuf zach:zak zachary:zachery,zackary
"""
"""A spelling of a name, with those that are replaced by it."""
COMPOUNDS = """
et cetera:etc al right:alright all right:alright how ever:however wi fi:wifi hi fi:hifi lo fi:lofi sci fi:scifi
e mail:email e book:ebook e commerce:ecommerce x ray:xray t shirt:tshirt a m:am p m:pm o k:okay
"""
"""Pairs of words, each with what is written for it."""


def open_asr(text: str) -> str:
    """A text as the Open ASR Leaderboard compares it."""
    return str(_normaliser()(text)).strip()


def judged(reference: str) -> bool:
    """Whether the leaderboard judges an utterance of this normalised transcript: not one without a word."""
    return reference.strip() not in ("", IGNORED)


@cache
def _normaliser() -> Callable[[str], str]:
    """Transformers' copy of OpenAI's normaliser, with the leaderboard's rules in the places of its own."""
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    found: Any = EnglishTextNormalizer(_spellings())
    fillers, owners = ("|".join(words.split()) for words in (FILLERS, OWNERS))
    found.ignore_patterns = rf"\b({fillers})\b"
    is_after_any = r"'s\b"
    found.replacers = {
        (rf"\b({owners})'s\b" if pattern == is_after_any else pattern): (r"\1 is" if pattern == is_after_any else words)
        for pattern, words in found.replacers.items()
    }
    numbers, spellings = found.standardize_numbers, found.standardize_spellings
    found.standardize_numbers = lambda text: numbers(_compounds(text))
    found.standardize_spellings = lambda text: _acronyms(_names(spellings(text)))
    return found


@cache
def _spellings() -> dict[str, str]:
    return {word: other for word, other in americanised() if word not in KEPT} | _pairs(SPELLINGS)


@cache
def americanised() -> tuple[tuple[str, str], ...]:
    """British words and American ones, as OpenAI's normaliser has them."""
    import whisper_normalizer

    listed = files(whisper_normalizer) / "normalizers" / "english.json"
    return tuple(json.loads(listed.read_text(encoding="utf-8")).items())


def _compounds(text: str) -> str:
    found = {f"{first} {second}": whole for first, second, whole in re.findall(r"(\S+) (\S+):(\S+)", COMPOUNDS)}
    either = "|".join(pair.replace(" ", r"\s+") for pair in found)
    return re.sub(rf"\b(?:{either})\b", lambda match: found[" ".join(match[0].split())], text)


def _names(text: str) -> str:
    names = _name_of()
    return " ".join(names.get(word, word) for word in text.split())


@cache
def _name_of() -> dict[str, str]:
    """Every variant of a name -> the spelling that replaces it."""
    return {variant: name for name, variants in _pairs(NAMES).items() for variant in variants.split(",")}


def _acronyms(text: str) -> str:
    """The text with runs of single letters and digits as one word: two of them, or three where one is a word itself."""

    def joined(match: re.Match[str]) -> str:
        letters = match[0].split()
        short = len(letters) < 3 and not {"a", "i"}.isdisjoint(letters)
        return match[0] if short else "".join(letters)

    return re.sub(r"(?<!\S)[^\W_](?: [^\W_])+(?!\S)", joined, text)


def _pairs(table: str) -> dict[str, str]:
    return dict(entry.split(":") for entry in table.split())
