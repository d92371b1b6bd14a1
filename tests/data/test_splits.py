"""No sentence stands on both sides, whoever says it and however it is spelled."""

import random
from collections import Counter

import pytest
import soundfile
from helpers.tones import tone

from trimbre.data import voices as speech
from trimbre.data.cuts import read_cuts
from trimbre.data.folder import folder
from trimbre.data.splits import SPLITS, split_of
from trimbre.data.text import normalise


def distinct_texts(count: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join("".join(draw.choices("aeioubcdfg", k=6)) for _ in range(2)) for _ in range(count)]


@pytest.mark.parametrize("text", distinct_texts(30))
def test_every_spelling_of_a_sentence_falls_on_the_same_side(text):
    plain = f"{text} it's twenty one"
    spellings = [plain.upper(), f"  “{plain}”, ", plain.replace("'", "’"), plain.replace("twenty one", "21") + "!"]
    assert {split_of(spelling) for spelling in spellings} == {split_of(plain)}


def test_shares_are_those_asked_for():
    count = 4000
    texts = distinct_texts(count)
    shares = Counter(map(split_of, texts))
    # Four standard deviations of a binomial with these odds.
    assert shares["train"] / count == pytest.approx(0.8, abs=4 * (0.16 / count) ** 0.5)
    for split in ("dev", "test"):
        assert shares[split] / count == pytest.approx(0.1, abs=4 * (0.09 / count) ** 0.5)
    assert [split_of(text, (8, 1, 1)) for text in texts] == [split_of(text) for text in texts]
    assert {split_of(text, (0, 0, 1)) for text in texts} == {"test"}


def test_corpora_of_two_sources_share_no_judged_sentence_with_any_training_set(tmp_path, monkeypatch):
    texts = distinct_texts(60)
    # One source has the sentences shouted, with digits; the other as plain words; each has some of its own.
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    rows = ["file_name,text"]
    for number, text in enumerate(texts[:50]):
        soundfile.write(recordings / f"{number}.wav", tone(440, 0.02, 8000), 8000)
        rows.append(f'{number}.wav,"{text.upper()}, 3!"')
    (recordings / "metadata.csv").write_text("\n".join(rows))
    (tmp_path / "sentences.txt").write_text("\n".join(f"{text} three" for text in texts[10:]))
    monkeypatch.setattr(speech, "choose", lambda *_: [speech.Voice("flite", "slt")])
    monkeypatch.setattr(
        speech, "_spoken", lambda jobs, _: (speech.Utterance(id, tone(440, 0.02), t, s) for id, t, s, *_ in jobs)
    )
    folder(source=recordings, out=tmp_path / "a")
    speech.voices(sentences=tmp_path / "sentences.txt", out=tmp_path / "b")
    said: dict[str, set[str]] = {}
    for split in SPLITS:
        for corpus in "ab":
            mine = {normalise(cut.supervisions[0].text) for cut in read_cuts(tmp_path / corpus / split)}
            assert mine
            said[split] = said.get(split, set()) | mine
    assert said["dev"] | said["test"] | said["train"] == {f"{text} three" for text in texts}
    assert not said["train"] & (said["dev"] | said["test"])
    assert not said["dev"] & said["test"]
