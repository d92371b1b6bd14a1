import itertools
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.places import ROOT

RECIPE = ROOT / "recipes" / "teacher"
sys.path.insert(0, str(RECIPE))

import phones  # noqa: E402
import units  # noqa: E402
from phones import Phone, align, log_mel, phones_of  # noqa: E402
from units import SILENCE, Voice  # noqa: E402

from trimbre.data.audio import SAMPLE_RATE  # noqa: E402
from trimbre.data.corpus import Utterance, write_corpus  # noqa: E402
from trimbre.data.cuts import read_cuts, transcript_of  # noqa: E402

PITCHES = {"a": 300.0, "b": 700.0, "c": 1500.0, "d": 3100.0}
LENGTH = SAMPLE_RATE // 8


def _recording(names: str, seed: int = 0, length: int = LENGTH) -> tuple[np.ndarray, list[Phone]]:
    """A tone for every name, between two silences, with noise that differs between recordings."""
    hiss = np.random.default_rng(seed).normal(scale=1e-3, size=(len(names) + 2) * length)
    times = np.arange(length) / SAMPLE_RATE
    tones = [np.zeros(length), *(np.sin(2 * np.pi * PITCHES[name] * times) for name in names), np.zeros(length)]
    spoken = [SILENCE, *names, SILENCE]
    return (np.concatenate(tones) + hiss).astype(np.float32), [
        Phone(name, n * length, (n + 1) * length) for n, name in enumerate(spoken)
    ]


def _tones_of(clip: np.ndarray, phones: int) -> str:
    """The name of the tone that is loudest in each of `phones` equal parts of a clip."""
    found = []
    for part in np.array_split(clip, phones):
        middle = part[len(part) // 4 : -len(part) // 4]
        frequency = np.abs(np.fft.rfft(middle)).argmax() * SAMPLE_RATE / len(middle)
        found.append(min(PITCHES, key=lambda name: abs(PITCHES[name] - frequency)))
    return "".join(found)


def test_warping_finds_every_frame_of_a_slower_reading() -> None:
    reference = np.random.default_rng(0).normal(size=(30, 8))
    repeats = np.random.default_rng(1).integers(1, 4, size=30)
    first, cost = align(reference, np.repeat(reference, repeats, axis=0))
    assert first.tolist() == (np.cumsum(repeats) - repeats).tolist()
    assert cost == pytest.approx(phones.DWELL * (repeats - 1).sum() / repeats.sum())


def test_warping_finds_every_frame_of_a_faster_reading() -> None:
    query = np.random.default_rng(0).normal(size=(20, 8))
    first, _ = align(np.repeat(query, 2, axis=0), query)
    assert first.tolist() == np.repeat(np.arange(20), 2).tolist()


def test_phones_of_a_recording_are_aligned_with_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, known = _recording("abca")
    ends = [(phone.name, phone.end / SAMPLE_RATE) for phone in known]
    monkeypatch.setattr(phones, "read_by_flite", lambda text: (ends, reading))
    slower, true = _recording("abca", seed=1, length=2 * LENGTH)
    found, _ = phones_of(slower, "whatever")
    assert [phone.name for phone in found] == [phone.name for phone in true]
    np.testing.assert_allclose([phone.end for phone in found], [phone.end for phone in true], atol=3 * phones.HOP)


def test_log_mel_puts_a_tone_where_it_is() -> None:
    loudest = [log_mel(_recording(name)[0][LENGTH : 2 * LENGTH]).mean(0).argmax() for name in PITCHES]
    assert all(low < high for low, high in itertools.pairwise(loudest))


def test_recorded_phones_give_the_recording_back() -> None:
    recorded = [_recording(names, seed) for seed, names in enumerate(["abcd", "dcba", "bdac"])]
    voice = Voice(*zip(*recorded, strict=True))
    for clip, spoken in recorded:
        said = voice.say([phone.name for phone in spoken], random.Random(0))
        np.testing.assert_array_equal(said, clip)


def test_unrecorded_sequences_have_the_order_asked_for() -> None:
    recorded = [_recording(names, seed) for seed, names in enumerate(["abcd", "dcba", "bdac"])]
    voice = Voice(*zip(*recorded, strict=True))
    said = voice.say(list("cadbbc"), random.Random(0))
    assert abs(len(said) - 6 * LENGTH) <= 12 * units.FADE
    assert _tones_of(said, 6) == "cadbbc"


def test_a_phone_that_was_not_aligned_is_not_used() -> None:
    clip, spoken = _recording("abca")
    early = spoken[2].start + LENGTH // 4
    voice = Voice([clip] * 3, [spoken, spoken, [*spoken[:2], Phone("b", spoken[2].start, early), *spoken[3:]]])
    of_b = [unit for units in voice.kinds["b", 0].values() for unit in units]
    assert {voice.units[unit].recording for unit in of_b} == {0, 1}
    with pytest.raises(KeyError, match="d"):
        voice.say(["a", "d"], random.Random(0))


@pytest.mark.parametrize(("loud", "quiet"), [(1.0, 0.8), (0.8, 1.0)])
def test_a_unit_with_the_right_neighbour_is_preferred(loud: float, quiet: float) -> None:
    recorded = [_recording(names) for names in ("ac", "cb", "ab")]
    spoken = [known for _, known in recorded]
    spoken[2][1] = Phone("a", LENGTH, LENGTH + LENGTH // 4)  # its ends were not found, those of the b after it were
    clips = [scale * clip for scale, (clip, _) in zip((1.0, quiet, loud), recorded, strict=True)]
    said = Voice(clips, spoken).say(["a", "b"], random.Random(0))
    first_half_of_b = said[LENGTH + units.PERIOD : LENGTH + LENGTH // 2 - units.PERIOD]
    assert np.abs(first_half_of_b).max() == pytest.approx(loud, abs=0.05)


def test_the_next_unit_of_a_recording_is_always_a_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "CANDIDATES", 1)
    recorded = [_recording("abcd", seed) for seed in range(20)]
    said = Voice(*zip(*recorded, strict=True)).say([phone.name for phone in recorded[0][1]], random.Random(0))
    assert any(np.array_equal(said, clip) for clip, _ in recorded)


def test_only_training_sentences_are_synthesised_and_failures_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(text: str) -> tuple[list[tuple[str, float]], np.ndarray]:
        clip, spoken = _recording(text.replace(" ", ""))
        return [(phone.name, phone.end / SAMPLE_RATE) for phone in spoken], clip

    texts = ["a b c", "c b a", "a a b", "c c b", "b a b", "b c b"]
    clips = [_recording(text.replace(" ", ""), seed)[0] for seed, text in enumerate(texts)]
    write_corpus(
        (Utterance(f"{n}", clip, text, None) for n, (clip, text) in enumerate(zip(clips, texts, strict=True))),
        tmp_path / "recordings",
        source="tones",
        licence="none",
    )
    lines = ["a b", "b a", "c a", "a c", "b c", "c b", "A b!", "a d"]
    splits = dict(zip(lines, ["train", "dev", "train", "test", "train", "train", "train", "train"], strict=True))
    monkeypatch.setattr(phones, "read_by_flite", read)
    monkeypatch.setattr(units, "spelled_by_flite", lambda text: [name for name, _ in read(text)[0]])
    monkeypatch.setattr(units, "split_of", lambda text, language: splits[text])
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    asked = ["--recordings", tmp_path / "recordings", "--sentences", tmp_path / "lines.txt", "--limit", "9"]
    monkeypatch.setattr(sys, "argv", ["units.py", *map(str, asked), "--out", str(tmp_path / "out")])
    units.main()
    said = [transcript_of(cut) for cut in read_cuts(tmp_path / "out" / "train")]
    assert sorted(map(str, said)) == ["a b", "b c", "c a", "c b"]
    assert "4 sentences" in capsys.readouterr().out
