"""Sentences of open-vocabulary English from Debian's fortunes, as texts of synthetic training speech.

python recipes/whisper/sentences.py --out data/fortunes.txt      # after apt-get install fortunes fortunes-min
"""

import argparse
import random
import re
from collections.abc import Iterator
from pathlib import Path

from trimbre.data.text import normalise

FORTUNES = Path("/usr/share/games/fortunes")
WORDS = range(3, 19)
SPEAKABLE = re.compile(r"[A-Za-z][A-Za-z',;: -]*[.?!]")


def sentences(folder: Path) -> Iterator[str]:
    """Every sentence of the files in `folder` with plain words and punctuation alone, in the order of the files."""
    for file in sorted(folder.iterdir()):
        if file.suffix:  # .dat and .u8 are derived from the text
            continue
        for fortune in re.split(r"^%$", file.read_text(errors="replace"), flags=re.MULTILINE):
            for sentence in re.split(r"(?<=[.?!])\s+", " ".join(fortune.split())):
                if SPEAKABLE.fullmatch(sentence) and len(sentence.split()) in WORDS:
                    yield sentence


def main() -> None:
    """Write the distinct sentences in random order."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fortunes", type=Path, default=FORTUNES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="lower case without punctuation, as a CTC model spells")
    asked = parser.parse_args()
    found = list(dict.fromkeys(sentences(asked.fortunes)))
    random.Random(asked.seed).shuffle(found)
    if asked.plain:
        found = [
            plain for plain in dict.fromkeys(normalise(sentence, "basic", language="en") for sentence in found) if plain
        ]
    asked.out.write_text("".join(f"{sentence}\n" for sentence in found))
    print(f"{asked.out}: {len(found)} sentences")


if __name__ == "__main__":
    main()
