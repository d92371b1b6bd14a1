import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.places import CLIP, ROOT, SAID

sys.path.insert(0, str(ROOT / "recipes" / "teacher"))

import judge
from judge import later

from trimbre.data.audio import load_cut, read_audio
from trimbre.data.corpus import Utterance, write_corpus
from trimbre.data.cuts import read_cuts, transcript_of
from trimbre.evaluation.score import score
from trimbre.models.loading import load


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged") / "set"
    draw = np.random.default_rng(0)
    clips = [0.1 * draw.standard_normal(length).astype(np.float32) for length in (16_000, 24_000)]
    texts = ("one two", "three")
    said = (Utterance(text[:3], clip, text, None) for text, clip in zip(texts, clips, strict=True))
    write_corpus(said, folder, source="noise", licence="none")
    return folder


def test_half_a_hop_later_is_the_same_audio_without_its_first_80_samples(spoken: Path) -> None:
    before, after = list(read_cuts(spoken)), list(later(read_cuts(spoken)))
    assert [(cut.id, transcript_of(cut)) for cut in after] == [(cut.id, transcript_of(cut)) for cut in before]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(load_cut(new), load_cut(old)[80:])


def test_the_table_and_the_json_have_what_the_texts_say(
    spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = str(ROOT / "models" / "telephone-en")
    out = tmp_path / "judged.json"
    monkeypatch.setattr(sys, "argv", ["judge.py", shipped, "--set", f"noise={spoken}", "--out", str(out)])
    judge.main()
    found = json.loads(out.read_text())["sets"]["noise"]
    model, processor = load(shipped)
    plain = score(model=model, processor=processor, data=str(spoken))
    assert found["wer"] == plain.words.to_json()
    assert found["wer"]["reference"] == 3
    shifted = score(model=model, processor=processor, data=later(read_cuts(spoken)))
    assert found["wer_shifted"] == shifted.words.to_json()
    assert "noise" in capsys.readouterr().out


def test_words_that_another_start_changes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a recording that begins after three of its words, these are not recognised."""
    said = SAID.split()
    write_corpus([Utterance("hold", read_audio(CLIP), SAID, None)], tmp_path / "set", source="prompt", licence="none")
    monkeypatch.setattr(judge, "HALF_HOP", 1.0)
    model, processor = load(ROOT / "models" / "telephone-en")
    found = judge.judge(model, processor, {"prompt": read_cuts(tmp_path / "set")})["prompt"]
    before, after = (
        score(model=model, processor=processor, data=cuts).hypotheses[0].split()
        for cuts in (read_cuts(tmp_path / "set"), later(read_cuts(tmp_path / "set")))
    )
    assert len(after) < len(before)
    assert after[-3:] == before[-3:]
    assert found["changed"] >= 100 * (len(before) - len(after)) / len(said)
    assert found["wer_shifted"]["errors"] > found["wer"]["errors"]
