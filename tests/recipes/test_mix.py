import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.places import ROOT

RECIPE = ROOT / "recipes" / "teacher"
sys.path.insert(0, str(RECIPE))

from mix import mixed  # noqa: E402

from trimbre.data.audio import load_cut  # noqa: E402
from trimbre.data.corpus import Utterance, write_corpus  # noqa: E402
from trimbre.data.cuts import cut_of, read_cuts, transcript_of  # noqa: E402


def cuts(name: str, count: int):
    return [cut_of(Path(f"/{name}{n}.flac"), id=f"{name}{n}", text=name, samples=1600) for n in range(count)]


def test_each_set_has_its_count_and_no_place_of_its_own() -> None:
    found = mixed({"a": (cuts("a", 400), 300), "b": (cuts("b", 7), 24)}, seed=0)
    assert len(found) == len({cut.id for cut in found}) == 324
    times = Counter(cut.recording.id for cut in found)
    assert {times[f"a{n}"] for n in range(400)} == {0, 1}
    assert sorted(times[f"b{n}"] for n in range(7)) == [3, 3, 3, 3, 4, 4, 4]
    places = [place for place, cut in enumerate(found) if transcript_of(cut) == "b"]
    assert np.mean(places) == pytest.approx(162, abs=4 * 324 / (12 * 24) ** 0.5)
    again, other = (mixed({"a": (cuts("a", 400), 300)}, seed=seed) for seed in (1, 2))
    assert [cut.id for cut in again] != [cut.id for cut in other]


def test_the_command_writes_a_manifest_that_reads_the_same_audio(tmp_path: Path) -> None:
    clip = np.linspace(-0.5, 0.5, 1600).astype(np.float32)
    for name in ("one", "two"):
        write_corpus([Utterance(name, clip, name, None)], tmp_path / name, source="ramp", licence="none")
    command = [sys.executable, str(RECIPE / "mix.py"), f"{tmp_path / 'one'}=2", f"{tmp_path / 'two'}=1", "--out"]
    said = subprocess.run([*command, str(tmp_path / "mix")], check=True, capture_output=True, text=True).stdout
    assert "3 utterances" in said
    found = list(read_cuts(tmp_path / "mix", allow_outside=True))
    assert Counter(map(transcript_of, found)) == {"one": 2, "two": 1}
    np.testing.assert_allclose(load_cut(found[0]), clip, atol=1e-4)
