"""Real speech for the teacher: corpora whose training speakers are never judged on, and a record that shows it.

`python recipes/teacher/real.py --speech ../shared/speech --out data/real` reads AudioFolders `SET/train` and `SET/test`
with a column `speaker`. It writes each set as a corpus with the splits train, dev (some of the training speakers) and
test, `judged.txt` with the test sentences of two words and more, which no synthetic voice may say for training, and
`real.json` with the speakers and sentences of every split.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimbre.data.audio import read_audio
from trimbre.data.corpus import Utterance, write_corpus
from trimbre.data.splits import place_of
from trimbre.data.tables import read_table
from trimbre.data.text import normalise
from trimbre.errors import UserError

LICENCES = {
    "an4": "CMU AN4 (Census): any use with its notice",
    "so762": "speechocean762: free for any use",
    "lj": "LJ Speech: public domain",
}
ONE_READER = ("lj",)
"""Sets by a single reader, whose test is of other chapters."""
WATCHED = {"an4": 5}
"""Training speakers that are kept for validation."""


@dataclass(frozen=True)
class Clip:
    """A row of an AudioFolder."""

    file: Path
    text: str
    speaker: str


def read(folder: Path) -> list[Clip]:
    """The clips of an AudioFolder, of the rows with a transcript and a speaker."""
    rows = read_table(folder / "metadata.csv")
    return [Clip(folder / row.files[0], row.text, row.speaker) for row in rows if row.text and row.speaker]


def splits_of(name: str, train: Sequence[Clip], test: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Train, dev and test of a set.

    Raises:
        UserError: a speaker of its test is among those trained on.
    """
    if name not in ONE_READER and (both := {clip.speaker for clip in train} & {clip.speaker for clip in test}):
        raise UserError(
            f"{name}: {', '.join(sorted(both))} speak in train and in test: take them out of one of the two"
        )
    watched = sorted({clip.speaker for clip in train}, key=place_of)[: WATCHED.get(name, 0)]
    return {
        "train": [clip for clip in train if clip.speaker not in watched],
        "dev": [clip for clip in train if clip.speaker in watched],
        "test": list(test),
    }


def record_of(splits: Mapping[str, Sequence[Clip]]) -> dict[str, Any]:
    """Speakers of each split, and the test sentences of two words and more that are said in train too."""
    said = {split: {normalise(clip.text, "basic", language="en") for clip in clips} for split, clips in splits.items()}
    return {
        "speakers": {split: sorted({clip.speaker for clip in clips}) for split, clips in splits.items()},
        "utterances": {split: len(clips) for split, clips in splits.items()},
        "shared_sentences": sorted(text for text in said["test"] & said["train"] if " " in text),
    }


def _utterances(splits: Mapping[str, Sequence[Clip]]) -> Iterator[Utterance | str]:
    for split, clips in splits.items():
        for clip in clips:
            try:
                audio = read_audio(clip.file)
            except UserError as error:
                yield str(error)
                continue
            yield Utterance(f"{split}-{clip.file.stem}", audio, clip.text, split, clip.speaker, "en")


def main() -> None:
    """Write the corpora, the judged sentences and the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--speech", type=Path, required=True, help="folder of an4, so762 and lj")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    record, judged = {}, set()
    for name, licence in LICENCES.items():
        splits = splits_of(name, read(asked.speech / name / "train"), read(asked.speech / name / "test"))
        corpus = write_corpus(_utterances(splits), asked.out / name, source=name, licence=licence)
        record[name] = record_of(splits)
        texts = (normalise(clip.text, "basic", language="en") for clip in splits["test"])
        judged |= {text for text in texts if " " in text}
        print(f"{name}: {corpus.utterances}, {len(record[name]['shared_sentences'])} test sentences also in train")
    (asked.out / "judged.txt").write_text("".join(f"{text}\n" for text in sorted(judged)))
    (asked.out / "real.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
