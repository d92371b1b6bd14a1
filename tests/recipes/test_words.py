import random
import sys

import numpy as np
import pytest
from helpers.places import ROOT
from helpers.tones import level, tone

sys.path.insert(0, str(ROOT / "recipes" / "teacher"))

import words
from phones import Phone
from words import spans_of, tight, words_of


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
