"""The language of an utterance: its own, else the one that the user states, else that of the model."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, metadata_load

from trimbre.errors import OptionError
from trimbre.models.families.registry import head_of

CODES = """
af:afr am:amh ar:ara,arb as:asm az:aze,azj ba:bak be:bel bg:bul bn:ben bo:bod,tib br:bre bs:bos ca:cat cs:ces,cze
cy:cym,wel da:dan de:deu,ger el:ell,gre en:eng eo:epo es:spa et:est,ekk eu:eus,baq fa:fas,per,pes fi:fin fo:fao
fr:fra,fre ga:gle gl:glg gu:guj ha:hau haw he:heb,iw hi:hin hr:hrv ht:hat hu:hun hy:hye,arm id:ind,in ig:ibo is:isl,ice
it:ita ja:jpn jw:jv,jav ka:kat,geo kab kk:kaz km:khm kn:kan ko:kor ky:kir la:lat lb:ltz lg:lug ln:lin lo:lao lt:lit
lv:lav,lvs mg:mlg,plt mi:mri,mao mk:mkd,mac ml:mal mn:mon,khk mr:mar ms:msa,may,zsm mt:mlt my:mya,bur ne:nep,npi
nl:nld,dut nn:nno no:nor,nb,nob oc:oci om:orm,gaz or:ory,ori pa:pan pl:pol ps:pus,pbt pt:por ro:ron,rum,mo ru:rus
rw:kin sa:san sd:snd si:sin sk:slk,slo sl:slv sn:sna so:som sq:sqi,alb sr:srp su:sun sv:swe sw:swa,swh ta:tam te:tel
tet tg:tgk th:tha ti:tir tk:tuk tl:tgl,fil tr:tur tt:tat ug:uig uk:ukr ur:urd uz:uzb,uzn vi:vie wo:wol xh:xho yi:yid
yo:yor yue zh:zho,chi,cmn zu:zul
"""
"""Codes of languages as Whisper writes them, which are those of ISO 639-1 where there is one; with others for each."""
SPACELESS = ("bo", "ja", "km", "lo", "my", "th", "yue", "zh")
"""Languages that are written without spaces between words."""
NOT_STATED = ("", "und", "mul", "mis", "zxx", "unknown", "none", "n/a")
"""What manifests write where the language is not known."""


@dataclass(frozen=True)
class Languages:
    """Which language utterances are in.

    Args:
        stated: code for utterances that do not state a language themselves.
        model: code of the model's language, for the normalisation of texts alone: it does not tell a multilingual model
            what is spoken.
        translated: whether texts are translations into English of what is spoken.
    """

    stated: str | None = None
    model: str | None = None
    translated: bool = False

    @classmethod
    def of(cls, stated: str | None, *recognisers: Any, task: str | None = None) -> "Languages":
        """The rule for a stated language and the first of several (model, processor) pairs that has one.

        Raises:
            OptionError: there is no such language.
        """
        known = (language_of_model(*recogniser) for recogniser in recognisers)
        model = next((language for language in known if language), None)
        return cls(stated_language(stated), model, task == "translate")

    def spoken(self, cut: Any) -> str | None:
        """What is spoken in a cut, so far as it or the user says."""
        return language_of(cut) or self.stated

    def written(self, cut: Any) -> str | None:
        """The language of a cut's text, by which it is normalised."""
        return self.text if self.translated else self.spoken(cut) or self.text

    @property
    def text(self) -> str | None:
        """The language of text that does not state one."""
        return "en" if self.translated else self.stated or self.model


def language_of(cut: Any) -> str | None:
    """The language that a cut states, such as `en`; None where it states none or several.

    A name that is not known stays as it is, in lower case: a language about which nothing is known.
    """
    stated = {segment.language for segment in cut.supervisions}
    found = {code_of(language) or language.lower() for language in stated if not _unstated(language)}
    return found.pop() if len(found) == 1 and not any(map(_unstated, stated)) else None


def stated_language(language: str | None) -> str | None:
    """The code of a language that the user states; None for None.

    Raises:
        OptionError: there is no such language.
    """
    if language is None:
        return None
    if found := code_of(language):
        return found
    raise OptionError("language", language, "no such language: give a code such as de, or a name in English")


def code_of(language: str | None) -> str | None:
    """The code of a language given as code, tag or English name: `de` for `German`, `de-DE`, `deu` or `<|de|>`."""
    if language is None:
        return None
    name = language.strip().strip("<|>").lower()
    codes = _codes()
    return codes.get(name) or codes.get(re.split(r"[-_.]", name)[0])


def is_unknown(language: str) -> bool:
    """Whether a manifest or a table states a language of which nothing is known, as by a typing error."""
    return code_of(language) is None and not _unstated(language)


def language_of_model(model: Any, processor: Any) -> str | None:
    """The language that a recogniser was trained for; None for several, or where nothing says it.

    An English-only Whisper, the language of a generation config, that of a tokenizer (MMS), or the only one in the
    front matter of the model card, whichever comes first. A model from the Hub has its card there.
    """
    head = head_of(model)
    tokenizer = getattr(processor, "tokenizer", processor)
    for stated in (head.language(model), getattr(tokenizer, "target_lang", None)):
        if isinstance(stated, str) and (found := code_of(stated)):
            return found
    return _language_of_card(str(getattr(model, "name_or_path", "")))


def _language_of_card(name: str) -> str | None:
    """The only language in the front matter of the model card of a directory or a model on the Hub."""
    if not name:
        return None
    card = Path(name) / "README.md" if Path(name).is_dir() else _card_from_hub(name)
    if card is None or not card.is_file():
        return None
    try:
        stated = (metadata_load(card) or {}).get("language")
    except Exception:  # front matter by hand fails in as many ways as YAML has
        return None
    languages = stated if isinstance(stated, list) else [stated]
    if len(languages) != 1 or languages[0] is None:
        return None
    return "no" if languages[0] is False else code_of(str(languages[0]))  # YAML takes no for false


@cache
def _card_from_hub(name: str) -> Path | None:
    """The model card of a model on the Hub, where it can be had."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return None
    for local in (True, False):
        try:
            return Path(hf_hub_download(name, "README.md", local_files_only=local))
        except Exception:  # no card, no network: as many kinds of error as the Hub has
            continue
    return None


@cache
def _codes() -> dict[str, str]:
    """Every way to write a language, in lower case -> its code."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    found = dict(TO_LANGUAGE_CODE)
    for code, _, others in (entry.partition(":") for entry in CODES.split()):
        found |= dict.fromkeys((code, *filter(None, others.split(","))), code)
    return found


def _unstated(language: str | None) -> bool:
    return language is None or language.strip().lower() in NOT_STATED
