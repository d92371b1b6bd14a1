"""A corpus of ten real read sentences, from PocketSphinx's test data: speech unlike telephone prompts.

    python recipes/corpora/readings.py --out data/readings

It needs apt-get, but no root.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from debian import fetch
from script import checked, parser, report

from trimbre.data.audio import read_audio
from trimbre.data.corpus import Corpus, Utterance, write_corpus
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
    found = list(_listed(folder / "usr/share/pocketsphinx/test/data"))
    results = ((PACKAGE, _utterance(sort, file, text)) for sort, file, text in found)
    return write_corpus(
        checked("reading", results, len(found)),
        out,
        source=f"Debian package {PACKAGE}",
        licence="LibriVox: public domain; cards: BSD, see the package's copyright file",
    )


def _listed(data: Path) -> Iterator[tuple[str, Path, str]]:
    """(sort, file, transcript) of every recording."""
    for sort, transcripts in SETS.items():
        for line in (data / sort / transcripts).read_text(encoding="utf-8").splitlines():
            if found := re.fullmatch(r"(?:<s>)?(.*?)(?:</s>)?\s*\((\S+)\)", line.strip()):
                yield sort, data / sort / f"{found[2]}.wav", found[1].strip()


def _utterance(sort: str, file: Path, text: str) -> Utterance | str:
    try:
        return Utterance(f"{sort}-{file.stem}", read_audio(file), text, None, sort, "en")
    except UserError as error:
        return str(error)


def main() -> int:
    """Parse the command line, write the corpus, and return the exit code."""
    options = parser(__doc__)
    given = options.parse_args()
    return report(lambda: readings(out=given.out), as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
