"""Cross-validation over speakers: no speaker is in two folds, and what is pooled is counted once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "claims"))

import an4


def test_every_fold_has_as_many_speakers_whatever_their_order():
    speakers = [f"speaker-{number}" for number in range(84)]
    folds = an4.fold_of(speakers * 3)
    assert folds == an4.fold_of(reversed(speakers))
    assert sorted(folds.values()) == sorted(list(range(an4.FOLDS)) * 12)


def fold(number: int) -> dict:
    """Of five speakers with two clips of ten words each; the half makes one error more in every clip of the first."""
    speakers = [f"{number}-{speaker}" for speaker in range(5) for _ in range(2)]
    errors = {"dense": [2] * 10, "control": [1] * 10, "half": [2, 2, *[1] * 8], "quarter": [4] * 10}
    run = {"removed": {"params": {"blocks": 0.5}}, "times_faster": {"median": 1.5}}
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
    found = an4.pooled([fold(number) for number in range(an4.FOLDS)])
    assert (found["words"], found["clips"], found["speakers"]) == (700, 70, 35)
    assert {name: one["percent"] for name, one in found["rates"].items()} == pytest.approx(
        {"dense": 20, "control": 10, "half": 12, "quarter": 40}
    )
    beside = found["beside"]["half beside control"]
    assert beside["points"] == pytest.approx(2)
    assert (beside["resampled"], beside["verdict"]) == ("speakers", "worse")
    assert found["beside"]["quarter beside dense"]["relative_percent"] == pytest.approx(100)
