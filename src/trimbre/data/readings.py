"""Ten real read sentences by other speakers, from PocketSphinx's test data: speech unlike telephone prompts."""

import re
from collections.abc import Iterator
from pathlib import Path

from trimbre.data.audio import read_audio
from trimbre.data.corpus import Corpus, Utterance, write_corpus
from trimbre.data.debian import fetch
from trimbre.errors import UserError

PACKAGE = "pocketsphinx-testdata"
SETS = {"librivox": "transcription", "cards": "cards.transcription"}
"""Folder -> its file of transcripts, lines of `<s> words </s> (file)`."""


def readings(*, out: Path) -> Corpus:
    """Write five sentences of a LibriVox novel and five readings of playing cards to `out`, unsplit.

    Raises:
        UserError: the package cannot be had.
    """
    (folder,) = fetch([PACKAGE])
    return write_corpus(
        _utterances(folder / "usr/share/pocketsphinx/test/data"),
        out,
        source=f"Debian package {PACKAGE}",
        licence="LibriVox: public domain; cards: BSD, see the package's copyright file",
    )


def _utterances(data: Path) -> Iterator[Utterance | str]:
    for name, transcripts in SETS.items():
        for line in (data / name / transcripts).read_text(encoding="utf-8").splitlines():
            if found := re.fullmatch(r"(?:<s>)?(.*?)(?:</s>)?\s*\((\S+)\)", line.strip()):
                text, file = found[1].strip(), found[2]
                try:
                    clip = read_audio(data / name / f"{file}.wav")
                except UserError as error:
                    yield str(error)
                    continue
                yield Utterance(f"{name}-{file}", clip, text, None, name)
