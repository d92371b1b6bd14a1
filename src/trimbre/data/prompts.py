"""Telephone prompts: real recordings with transcripts, from Debian's Asterisk sounds (CC BY-SA 3.0)."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from trimbre.data.audio import read_audio
from trimbre.data.corpus import Corpus, Utterance, write_corpus
from trimbre.data.debian import fetch
from trimbre.data.splits import split_of
from trimbre.data.text import normalise
from trimbre.errors import UserError

LANGUAGES = ("en", "es", "fr")
LICENCE = "CC BY-SA 3.0"


def prompts(*, language: str, out: Path) -> Corpus:
    """Write the prompts in `language` to `out`, split by transcript.

    Raises:
        UserError: another language, or the packages cannot be had.
    """
    if language not in LANGUAGES:
        raise UserError(f"--language {language}: there are prompts in {', '.join(LANGUAGES)}")
    name = f"asterisk-core-sounds-{language}"
    texts, sounds = fetch([name, f"{name}-g722"])
    listing = next(texts.glob("usr/share/doc/*/core-sounds-*.txt.gz"), None)
    if listing is None:
        raise UserError(f"the package {name} in {texts} lists no transcripts: remove that folder and try again")
    with gzip.open(listing, "rt", encoding="utf-8", errors="replace") as file:
        said = dict(transcripts(file))
    return write_corpus(
        _utterances(said, sounds / "usr/share/asterisk/sounds", language),
        out,
        source=f"Debian packages {name} and {name}-g722",
        licence=LICENCE,
    )


def transcripts(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """(file name without suffix, what is said) of a listing.

    Comments are passed over, and so are noises and notes, which are no speech: `[beep]`, `(4 seconds of silence)`.
    """
    for line in lines:
        name, colon, text = line.strip().partition(":")
        text = text.strip()
        if colon and text and not name.startswith(";") and not re.search(r"\[.*\]|<.*>|\(.*\)", text):
            yield name.strip(), text


def _utterances(said: dict[str, str], sounds: Path, language: str) -> Iterator[Utterance | str]:
    files = {
        str(path.relative_to(root).with_suffix("")): path for root in sounds.iterdir() for path in root.rglob("*.g722")
    }
    for name, text in sorted(said.items()):
        if name not in files or not normalise(text, language=language):
            continue
        try:
            clip = read_audio(files[name])
        except UserError as error:
            yield str(error)
            continue
        yield Utterance(
            f"{language}-{name.replace('/', '-')}",
            clip,
            text,
            split_of(text),
            f"prompts-{language}",
            language,
        )
