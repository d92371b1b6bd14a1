import random
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.places import ROOT
from helpers.tones import level, tone

sys.path.insert(0, str(ROOT / "recipes" / "teacher"))

import words
from phones import Phone
from words import spans_of, tight, utterances, words_of

from trimbre.data.corpus import Utterance, write_corpus


def phones_at(*named: tuple[str, int, int]) -> list[Phone]:
    return [Phone(*one) for one in named]


READ = phones_at(
    ("pau", 0, 800),
    ("w", 800, 1600),
    ("ah", 1600, 2400),
    ("n", 2400, 3200),
    ("pau", 3200, 4000),
    ("t", 4000, 4800),
    ("uw", 4800, 6400),
    ("pau", 6400, 7200),
)


def test_words_are_from_their_first_phone_to_their_last() -> None:
    assert spans_of([["w", "ah", "n"], ["t", "uw"]], READ) == [(800, 3200), (4000, 6400)]


@pytest.mark.parametrize("spelled", [[["w", "ah"], ["t", "uw"]], [["w", "ah", "n", "t", "uw"], []]])
def test_phones_that_do_not_add_up_are_no_words(spelled: list[list[str]]) -> None:
    assert spans_of(spelled, READ) is None


def test_words_of_a_recording_are_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = np.arange(7200, dtype=np.float32)
    spelling = {"one": ["w", "ah", "n"], "two": ["t", "uw"]}
    monkeypatch.setattr(words, "spelled_by_flite", lambda word: ["pau", *spelling[word], "pau"])
    monkeypatch.setattr(words, "phones_of", lambda clip, text: (READ, words.FAR - 0.1))
    found = words_of(clip, "one two")
    assert [word for word, _ in found] == ["one", "two"]
    np.testing.assert_array_equal(found[1][1], clip[4000:6400])
    monkeypatch.setattr(words, "phones_of", lambda clip, text: (READ, words.FAR + 0.1))
    assert words_of(clip, "one two") == []
    ((word, whole),) = words_of(clip, "one")  # needs no alignment
    assert word == "one"
    assert whole is clip


def test_a_tight_word_has_nothing_but_itself() -> None:
    silence = 1e-4 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    word = tone(440, 0.4)
    clip = np.concatenate([silence, word, silence])
    lengths = set()
    for seed in range(30):
        cut = tight(clip, random.Random(seed))
        assert len(word) <= len(cut) <= len(word) + 2 * (words.MARGIN + words.FRAME)
        assert level(cut) > 0.8 * level(word)
        lengths.add(len(cut))
    assert len(lengths) > 20
    assert len(tight(np.zeros(4000, dtype=np.float32), random.Random(0))) == 0


def test_recordings_of_a_word_become_clips_of_its_length_half_of_them_in_a_telephones_band(tmp_path: Path) -> None:
    silence = np.zeros(8000, dtype=np.float32)
    lengths = [0.1, *[0.5] * 40, 1.2]  # seconds; the first and the last are no single words
    clips = [np.concatenate([silence, tone(1000, length) + tone(6000, length), silence]) for length in lengths]
    made = (Utterance(f"w{number}", clip, "Two", None, "fash") for number, clip in enumerate(clips))
    write_corpus(made, tmp_path / "set", source="tones", licence="none")
    found = list(utterances([tmp_path / "set"], seed=0, workers=1))
    assert [(one.id, one.text, one.speaker, one.language) for one in found] == [
        (f"w{number}-00", "two", "fash", "en") for number in range(1, 41)
    ]
    assert all(0.5 <= len(one.clip) / 16_000 < 0.6 and 0.29 < np.abs(one.clip).max() < 0.96 for one in found)
    spectra = [np.abs(np.fft.rfft(one.clip, 16_000)) for one in found]
    limited = sum(spectrum[6000] < 0.05 * spectrum[1000] for spectrum in spectra)
    assert 10 < limited < 30
    assert all(spectrum[6000] < 0.05 * spectrum[1000] or spectrum[6000] > 0.5 * spectrum[1000] for spectrum in spectra)
