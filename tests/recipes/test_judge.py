import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.places import ROOT

sys.path.insert(0, str(ROOT / "recipes" / "teacher"))

import judge
from judge import later

from trimbre.data.audio import load_cut
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
    same = plain.hypotheses == shifted.hypotheses
    assert (found["changed"] == 0) == same
    assert "noise" in capsys.readouterr().out
