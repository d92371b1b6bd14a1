"""The speech of the demo: what is said by which voices, and what is trained and tested on."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from commands import DEMO, run
from stages import Stage

HELD_OUT = (
    "flite:rms espeak-ng:*+m7 espeak-ng:*+f4 espeak-ng:*+Linda espeak-ng:*+Michael espeak-ng:*+Quincy "
    "espeak-ng:*+klatt3 espeak-ng:*+Annie espeak-ng:*+Pedro"
).split()
"""Speakers that the shipped recogniser was not trained on either (recipes/teacher/train.sh)."""
SLOW = ["festival:*", "piper:*"]
"""Voices that take ten times as long to speak: more sentences teach more than these do."""
SPOKEN, WATCHED = 6000, 200
"""Sentences to train on, and to validate on during recovery."""
DEV = DEMO / "dev/dev"


class Sentence(NamedTuple):
    """A recording and what is said in it."""

    file: Path
    text: str


def training_sets(*, real: bool) -> list[Path]:
    """The folders to train on; `real`: with recordings."""
    return [DEMO / "train/train", *([DEMO / "prompts/train"] if real else [])]


def test_sets(*, real: bool) -> dict[str, Path]:
    """The folders to test on, by name, the main one first."""
    sets = {"heldout": DEMO / "heldout/test", "unseen": DEMO / "unseen"}
    return sets | ({"prompts": DEMO / "prompts/test", "readings": DEMO / "readings"} if real else {})


def stages(*, real: bool) -> list[Stage]:
    """What brings all of them."""
    apart, rest = (["--voices", *HELD_OUT], ["--except", *HELD_OUT, *SLOW]) if real else ([], [])
    fetch = ["--fetch"] if real else []
    spoken, unseen = DEMO / "sentences.txt", DEMO / "unseen.txt"

    def write() -> None:
        _sentences(spoken, "--count", "20000", "--seed", "11")
        _sentences(unseen, "--count", "300", "--seed", "12", "--domain", "unseen")

    def bring() -> None:
        _corpus("prompts", "prompts", "--language", "en")
        _corpus("readings", "readings")

    def speak_training() -> None:
        train = ["--splits", "train", "--limit", str(SPOKEN), "--tract", "0.15", *rest, *fetch]
        _corpus("train", "voices", "--sentences", str(spoken), *train)
        _corpus("dev", "voices", "--sentences", str(spoken), "--splits", "dev", "--limit", str(WATCHED), *rest)

    def speak_test() -> None:
        _corpus("heldout", "voices", "--sentences", str(spoken), "--splits", "test", *apart)
        _corpus("unseen", "voices", "--sentences", str(unseen), "--whole", *apart)

    def stage(title: str, seconds: float, names: str, work) -> Stage:
        return Stage(title, seconds, [DEMO / name for name in names.split()], work)

    voices = "many voices" if real else "one voice (there is no apt here to bring more, nor recordings)"
    return [
        stage("writing sentences", 3, "sentences.txt unseen.txt", write),
        *([stage("bringing recorded prompts and readings", 13, "prompts readings", bring)] if real else []),
        stage(f"speaking {SPOKEN:,} sentences to train on, by {voices}", 65, "train dev", speak_training),
        stage("speaking sentences to test on, by voices that are not trained on", 35, "heldout unseen", speak_test),
    ]


def one_sentence(sets: Mapping[str, Path]) -> Sentence:
    """The first recording of five to ten words: a real prompt, where there are some."""
    from trimbre.data.cuts import read_cuts

    place = sets.get("prompts", sets["heldout"])
    for cut in read_cuts(str(place)):
        if 5 <= len(cut.supervisions[0].text.split()) <= 10:
            break
    return Sentence(Path(cut.recording.sources[0].source), cut.supervisions[0].text)


def _sentences(out: Path, *options: str) -> None:
    if not out.exists():
        run(["python", "recipes/teacher/sentences.py", *options, "--out", str(out)])


def _corpus(name: str, recipe: str, *options: str) -> None:
    if not (DEMO / name).exists():
        run(["python", f"recipes/corpora/{recipe}.py", *options, "--out", str(DEMO / name)])
