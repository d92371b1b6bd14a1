import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.places import ROOT

RECIPE = ROOT / "recipes" / "teacher"
sys.path.insert(0, str(RECIPE))

from real import WATCHED, Clip, record_of, splits_of  # noqa: E402

from trimbre.data.cuts import read_cuts, transcript_of  # noqa: E402
from trimbre.errors import UserError  # noqa: E402


def clips(*said: str) -> list[Clip]:
    """Clips of `speaker: text`."""
    pairs = (one.split(": ") for one in said)
    return [Clip(Path(f"{number}.wav"), text, speaker) for number, (speaker, text) in enumerate(pairs)]


def test_a_speaker_of_the_test_among_those_trained_on_is_refused() -> None:
    with pytest.raises(UserError, match="an4: b speak in train and in test"):
        splits_of("an4", clips("a: one", "b: two"), clips("b: three", "c: four"))
    splits = splits_of("lj", clips("LJ: one"), clips("LJ: two"))  # a single reader, in other chapters
    assert {name: len(part) for name, part in splits.items()} == {"train": 1, "dev": 0, "test": 1}


def test_speakers_are_divided_whole() -> None:
    train = clips(*(f"s{number % 20}: text {number}" for number in range(100)))
    splits = splits_of("an4", train, clips("t: one"))
    speakers = {name: {clip.speaker for clip in part} for name, part in splits.items()}
    assert len(speakers["dev"]) == WATCHED["an4"]
    assert not speakers["dev"] & speakers["train"]
    assert sorted([*splits["train"], *splits["dev"]], key=lambda clip: int(clip.file.stem)) == train


def test_the_record_names_what_is_said_in_both() -> None:
    record = record_of(
        {"train": clips("a: Yes.", "a: one 50", "b: x y"), "test": clips("c: yes", "c: One fifty", "d: z")}
    )
    assert record["shared_sentences"] == ["one fifty"]
    assert record["speakers"] == {"train": ["a", "b"], "test": ["c", "d"]}


def test_the_command_writes_corpora_and_what_may_not_be_said(tmp_path: Path) -> None:
    rows = {
        "an4": {"train": [("a", "enter two"), ("b", "go")], "test": [("c", "Rubout G 3"), ("c", "no")]},
        "so762": {"train": [("d", "we speak out")], "test": [("e", "how are you")]},
        "lj": {"train": [("LJ", "Volume two.")], "test": [("LJ", "By Griffiths.")]},
    }
    for name, splits in rows.items():
        for split, said in splits.items():
            folder = tmp_path / "speech" / name / split
            folder.mkdir(parents=True)
            with (folder / "metadata.csv").open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["file_name", "text", "speaker"])
                for number, (speaker, text) in enumerate(said):
                    soundfile.write(folder / f"{number}.wav", 0.1 * np.ones(1600 + number), 16_000)
                    table.writerow([f"{number}.wav", text, speaker])
    out = tmp_path / "real"
    command = [sys.executable, str(RECIPE / "real.py"), "--speech", str(tmp_path / "speech"), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    assert (out / "judged.txt").read_text().splitlines() == ["by griffiths", "how are you", "rubout g three"]
    assert json.loads((out / "real.json").read_text())["so762"]["speakers"]["test"] == ["e"]
    cuts = list(read_cuts(out / "an4" / "test"))
    assert [(transcript_of(cut), cut.supervisions[0].speaker, cut.num_samples) for cut in cuts] == [
        ("Rubout G 3", "c", 1600),
        ("no", "c", 1601),
    ]


def test_what_ships_was_not_trained_on_those_it_is_judged_by() -> None:
    """`real.json` is the record of the corpora that the shipped recogniser was trained and judged on."""
    record = json.loads((RECIPE / "real.json").read_text())
    for name in ("an4", "so762"):
        speakers = {split: set(found) for split, found in record[name]["speakers"].items()}
        assert speakers["test"]
        assert not speakers["train"] & speakers["test"]
        assert not speakers["dev"] & (speakers["train"] | speakers["test"])
    assert record["so762"]["shared_sentences"] == record["lj"]["shared_sentences"] == []
    # AN4's own split shares spelled names and numbers; without these, its sentences are apart too.
    assert len(record["an4"]["shared_sentences"]) < 0.15 * record["an4"]["utterances"]["test"]


@pytest.mark.parametrize("name", ["telephone-en", "telephone-en-deep"])
def test_no_stage_of_what_ships_trained_on_a_test_or_a_dev_set(name) -> None:
    trained = json.loads((ROOT / "models" / name / "train.json").read_text())
    commands = [stage["command"] for stage in [*trained["earlier"], trained]]
    paths = [part for command in commands for part in command.partition("--train ")[2].split()[0].split(",")]
    assert len(paths) > len(commands)
    assert ("data/real/an4/train" in paths) == (name == "telephone-en-deep")
    assert not list(filter(judged_on, paths))


def test_no_test_or_dev_set_is_mixed_into_what_is_trained_on() -> None:
    recipe = (RECIPE / "train.sh").read_text()
    mixed = re.findall(r"(\S+)=\d+(?= |$)", " ".join(re.findall(r"mix\.py((?:.*\\\n)*.*)", recipe)), re.MULTILINE)
    assert {"data/words", "data/deep-quick/train", "$AN4"} <= set(mixed)
    named = dict(re.findall(r"^(PROMPTS|AN4)=(\S+)$", recipe, re.MULTILINE))
    assert not [path for path in mixed if judged_on(named.get(path.removeprefix("$"), path))]
    words = re.findall(r"words\.py --recordings (.*) --limit \d+ --seed \d+ --out (\S+)", recipe)
    assert {out for recordings, out in words if any(map(judged_on, recordings.split()))} == {"data/tight"}


def judged_on(path: str) -> bool:
    """Whether a set is for validation or judging."""
    return Path(path).name in ("test", "dev") or "tight" in path or "heldout" in path
