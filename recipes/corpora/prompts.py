"""A corpus of telephone prompts: real recordings with transcripts, from Debian's Asterisk sounds (CC BY-SA 3.0).

    python recipes/corpora/prompts.py --language en --out data/en

It needs apt-get, but no root. Train, dev and test are divided by a hash of the transcript.
"""

import gzip
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from debian import fetch
from script import checked, parser, report

from trimbre.data.audio import read_audio
from trimbre.data.corpus import Corpus, Utterance, write_corpus
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
    files = _files(sounds / "usr/share/asterisk/sounds")
    spoken = {key: text for key, text in sorted(said.items()) if key in files and normalise(text, language=language)}
    results = ((name, _utterance(key, files[key], text, language)) for key, text in spoken.items())
    return write_corpus(
        checked("decoding", results, len(spoken)),
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


def _files(sounds: Path) -> dict[str, Path]:
    """The recordings of all speakers by their names in the listing."""
    roots = sounds.iterdir() if sounds.is_dir() else ()
    return {str(path.relative_to(root).with_suffix("")): path for root in roots for path in root.rglob("*.g722")}


def _utterance(name: str, file: Path, text: str, language: str) -> Utterance | str:
    try:
        clip = read_audio(file)
    except UserError as error:
        return str(error)
    id = f"{language}-{name.replace('/', '-')}"
    return Utterance(id, clip, text, split_of(text, language=language), f"prompts-{language}", language)


def main() -> int:
    """Parse the command line, write the corpus, and return the exit code."""
    options = parser(__doc__)
    options.add_argument("--language", default="en", help=f"{', '.join(LANGUAGES)}; en by default")
    given = options.parse_args()
    return report(lambda: prompts(language=given.language, out=given.out), as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
