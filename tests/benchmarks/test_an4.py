"""Cross-validation over speakers: no speaker is in two folds, all is pooled once, and docs say what was found."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.mini_recogniser import mini_parakeet, mini_processor
from helpers.places import ROOT

sys.path.insert(0, str(ROOT / "benchmarks" / "claims"))

import an4
from summary import tables

from trimbre.config import BatchConfig
from trimbre.data.cuts import read_cuts, speaker_of, write_cuts
from trimbre.errors import UserError
from trimbre.evaluation.bootstrap import bootstrap_interval
from trimbre.evaluation.score import score
from trimbre.models.loading import load

RECORD = ROOT / "benchmarks" / "claims" / "an4.json"


def test_every_fold_has_as_many_speakers_whatever_their_order():
    speakers = [f"speaker-{number}" for number in range(84)]
    folds = an4.fold_of(speakers * 3)
    assert folds == an4.fold_of(reversed(speakers))
    assert sorted(folds.values()) == sorted(list(range(an4.FOLDS)) * 12)


def fold(number: int) -> dict:
    """Of five speakers with two clips of ten words each; the half makes one error more in every clip of the first."""
    speakers = [f"{number}-{speaker}" for speaker in range(5) for _ in range(2)]
    errors = {"dense": [2] * 10, "control": [1] * 10, "half": [2, 2, *[1] * 8], "quarter": [4] * 10}
    stages = {"recover": {"minutes": 1.0 + number, "audio_seconds": 3600.0}}
    removed = {cost: {"blocks": 0.5 + number / 100} for cost in ("params", "macs")}
    run = {"removed": removed, "times_faster": {"median": 1.5 + number}, "stages": stages}
    return {
        "fold": number,
        "steps": 400,
        "clips": [f"{number}-{clip}" for clip in range(10)],
        "speakers": speakers,
        "words": [10] * 10,
        "errors": errors,
        "minutes": {"dense": 1.0, "half": 2.0, "quarter": 1.0},
        "runs": {"half": run, "quarter": run},
    }


def test_errors_of_all_folds_are_pooled_with_intervals_over_speakers():
    half, quarter = an4.pooled([fold(number) for number in range(an4.FOLDS)])["rows"]
    judged = half["sets"]["an4"]
    assert (judged["utterances"], judged["speakers"]) == (70, 35)
    assert {name: one["percent"] for name, one in judged["rates"].items()} == pytest.approx(
        {"dense": 20, "control": 10, "pruned": 12}
    )
    errors, speakers = np.tile(fold(0)["errors"]["half"], 7), [name for n in range(7) for name in fold(n)["speakers"]]
    ends = bootstrap_interval(errors, np.full(70, 10), speakers=speakers)
    assert judged["rates"]["pruned"]["interval"] == pytest.approx([100 * end for end in ends], abs=1e-4)
    assert {one["reference"] for one in judged["rates"].values()} == {700}
    assert {one["resampled"] for one in judged["rates"].values()} == {"speakers"}
    beside = judged["beside"]["control"]
    assert beside["points"] == pytest.approx(2)
    assert (beside["resampled"], beside["verdict"]) == ("speakers", "worse")
    assert quarter["sets"]["an4"]["rates"]["pruned"]["percent"] == pytest.approx(40)
    assert quarter["sets"]["an4"]["beside"]["dense"]["relative_percent"] == pytest.approx(100)


def test_what_folds_differ_in_is_taken_over_all_of_them():
    """Folds remove 50 to 56 %, are 1.5 to 7.5 times faster and recover for 1 to 7 minutes."""
    found = an4.pooled([fold(number) for number in range(an4.FOLDS)])
    half = found["rows"][0]
    assert half["removed"]["macs"]["blocks"] == pytest.approx(0.53)
    assert half["times"]["float32, PyTorch"]["utterances"]["times_faster"] == {"median": 4.5, "low": 1.5, "high": 7.5}
    assert half["minutes"]["recovery"] == pytest.approx(4)
    assert found["minutes"]["half"] == [2.0] * an4.FOLDS
    lines = list(tables(found["rows"]))
    assert len(lines) == 9
    for part in (lines[:4], lines[5:]):
        assert len({line.count("|") for line in part}) == 1
    assert "an4 (700 words) | 20.00 [20.00, 20.00] | 10.00 [10.00, 10.00] | 12.00 [" in lines[2]
    assert lines[2].endswith("| at most +10 % beside control: no |")
    assert lines[7].endswith("| 53.0%, 53.0% | – | – | 4.50 | 400 steps, 4 min | 1.0 h |")


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_the_documentation_has_the_table_of_the_record(page):
    expected = list(an4.table(json.loads(RECORD.read_text())))
    lines = (ROOT / page).read_text().splitlines()
    start = lines.index(expected[0])
    assert lines[start : start + len(expected)] == expected


def test_what_is_asked_of_the_record_is_in_it():
    claims = [row["claims"] for row in json.loads(RECORD.read_text())["rows"]]
    assert [(one["asked"], one["beside"], one["holds"]) for (one,) in claims] == [
        ("at most +10 %", "control", "yes"),
        ("at most +1 points", "control", "estimate"),
    ]
    assert [claim.asked for claim in an4.CLAIMS.values()] == [one["asked"] for (one,) in claims]


def test_the_documentation_has_the_minutes_of_the_record():
    minutes = json.loads(RECORD.read_text())["minutes"]
    assert {len(each) for each in minutes.values()} == {an4.FOLDS}
    dense, half, quarter = (f"{min(each):.0f} to {max(each):.0f}" for each in minutes.values())
    said = " ".join((ROOT / "docs" / "results.md").read_text().split())
    assert f"{dense} for a dense model, {half} for a half with its scores, refit and control, and {quarter} for" in said


@pytest.fixture
def speech(tmp_path, noise_corpus, monkeypatch):
    """Twelve speakers of two clips in the splits of AN4, the demo's sets, and a tiny model to start from."""
    monkeypatch.chdir(tmp_path)
    for split, part in {"train": slice(14), "dev": slice(14, 18), "test": slice(18, 24)}.items():
        place = Path("real/an4") / split
        shutil.copytree(noise_corpus, place)
        cuts = list(read_cuts(place))
        for number, cut in enumerate(cuts):
            cut.supervisions = [replace(cut.supervisions[0], speaker=f"speaker-{number // 2}")]
        write_cuts(cuts[part], place)
    for place in ("train/train", "prompts/train", "prompts/dev"):
        shutil.copytree(noise_corpus, Path("demo") / place)
    mini_parakeet().save_pretrained("start")
    mini_processor().save_pretrained("start")
    monkeypatch.setattr(an4, "FOLDS", 3)
    monkeypatch.setattr(an4, "BATCHES", BatchConfig(max_duration=4))
    return Path("demo"), Path("real/an4")


@pytest.mark.slow
def test_a_fold_is_judged_on_speakers_that_it_did_not_train_on_and_goes_on_where_it_stopped(speech, monkeypatch):
    found = an4.run(1, Path("start"), *speech, steps=2)
    place = an4.OUT / "fold-1"
    trained, judged = (
        {speaker_of(cut) for cut in read_cuts(place / name, allow_outside=True)} for name in ("an4", "judged")
    )
    assert (len(trained), len(judged), trained & judged) == (8, 4, set())
    assert set(found["speakers"]) == judged
    assert set(found["errors"]) == {"dense", "control", "half", "quarter"}
    for name in ("dense", "half", "quarter"):
        model, processor = load(place / name)
        again = score(model=model, processor=processor, data=place / "judged", allow_outside=True)
        assert (found["clips"], found["words"]) == (list(again.ids), again.words.reference.tolist())
        assert found["errors"][name] == again.words.per_sentence.tolist()
    assert set(found["runs"]["half"]["stages"]) == {"recover", "control"}
    assert set(found["runs"]["quarter"]["stages"]) == {"recover"}
    assert list(found["minutes"]) == ["dense", "half", "quarter"]
    half = json.loads((place / "half/prune.json").read_text())
    assert (half["options"]["remove"], half["options"]["seed"]) == (0.5, 1)
    for trains in ("train", "prune"):
        monkeypatch.setattr(an4.trimbre, trains, None)  # neither the models nor the control are made again
    assert an4.run(1, Path("start"), *speech, steps=2) == found
    with pytest.raises(UserError, match=r"dense was made by 2 steps: remove it, or give --steps 2"):
        an4.run(1, Path("start"), *speech, steps=3)


def test_folds_by_other_steps_are_not_pooled(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    an4.OUT.mkdir(parents=True)
    for number in range(an4.FOLDS):
        steps = {"steps": 40} if number == 3 else {}
        an4.fold_file(number).write_text(json.dumps(fold(number) | steps))
    assert an4.main([]) == 2
    said = capsys.readouterr().err
    assert said == "runs/an4/fold-3.json was made by 40 steps: remove it, or give --steps 40\n"
    assert not an4.POOLED.exists()
