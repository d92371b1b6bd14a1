"""Sentences spoken by drawn voices: an engine of tones stands in for the real ones, which also get their say."""

import gzip
import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.tones import level, pitch, tone

from trimbre.data import voices as speech
from trimbre.data.audio import load_cut
from trimbre.data.cuts import read_cuts
from trimbre.data.splits import split_of
from trimbre.data.voices import Voice, choose, voices
from trimbre.errors import UserError

# The engine below exists only in this process and those forked from it.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

SENTENCES = [f"say {letter} {number}" for letter in "abcdef" for number in range(10)]


def humming(name, text, draw, slower):
    """A voice is its pitch: hum-300 hums at 300 Hz, as long as the text is, a little slower or faster."""
    if "unspeakable" in text:
        raise RuntimeError("cannot say that")
    silence = np.zeros(20_000, dtype=np.float32)
    if "mute" in text:
        return silence, 22_050
    sound = tone(float(name.split("-")[1]), len(text) * draw.uniform(0.02, 0.03) * slower, 22_050)
    return np.concatenate([silence, sound, silence]), 22_050


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    installed = [Voice("flite", f"hum-{hertz}") for hertz in (300, 500)] + [Voice("piper", "hum-700")]
    monkeypatch.setattr(speech, "installed_voices", lambda: installed)
    monkeypatch.setattr(speech, "ENGINES", {"flite": humming, "piper": humming})
    forked = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("fork"))
    monkeypatch.setattr(speech, "ProcessPoolExecutor", forked)


@pytest.fixture
def sentences(tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join([*SENTENCES, "", "  ", "..."]), encoding="utf-8-sig")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; of a compressed one, what is in it, for its head holds the time."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: gzip.decompress(data) if name.endswith(".gz") else data for name, data in files.items()}


def test_voices_are_chosen_by_pattern():
    assert [str(v) for v in choose(["*"])] == ["flite:hum-300", "flite:hum-500", "piper:hum-700"]
    assert [str(v) for v in choose(["piper:*", "*-3?0"])] == ["flite:hum-300", "piper:hum-700"]
    assert [str(v) for v in choose(["*"], ["flite:*"])] == ["piper:hum-700"]
    # An engine that isn't installed may be held out all the same: the command is the same on every machine.
    assert len(choose(["*"], ["espeak-ng:*+m7", "festival:ked_diphone"])) == 3


@pytest.mark.parametrize(
    ("patterns", "excluded", "complaint"),
    [
        (["*", "flite:rms"], [], r"--voices flite:rms: no such voice is installed \(engines found: flite, piper\)"),
        (["*"], ["flite:hum-3000"], "--except flite:hum-3000: there is no such voice"),
        (["*"], ["espeak-ng:*+m77"], r"--except espeak-ng:\*\+m77: there is no such voice"),
        (["flite:*"], ["flite:*"], r"--except flite:\*: no voice is left"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_named(patterns, excluded, complaint):
    with pytest.raises(UserError, match=complaint):
        choose(patterns, excluded)


def test_a_machine_without_voices_says_what_to_install(monkeypatch):
    monkeypatch.setattr(speech, "installed_voices", list)
    with pytest.raises(UserError, match="install espeak-ng or flite"):
        choose(["*"])


def test_a_seed_gives_the_same_corpus_however_many_speak_at_once(sentences, tmp_path):
    for place, workers, seed in [("one", 1, 0), ("three", 3, 0), ("other", 1, 1)]:
        voices(sentences=sentences, out=tmp_path / place / "out", workers=workers, seed=seed)
    one, three, other = (contents(tmp_path / place / "out") for place in ("one", "three", "other"))
    assert len([name for name in one if name.endswith(".flac")]) == len(SENTENCES)
    assert one == three
    assert one.keys() == other.keys()
    assert sum(one[name] == other[name] for name in one) <= 1  # corpus.json, if the hours happen to be the same


def test_every_sentence_is_said_by_the_voice_it_is_said_to_be_said_by(sentences, tmp_path):
    made = voices(sentences=sentences, out=tmp_path / "out", whole=True, workers=1)
    assert made.utterances == {"all": len(SENTENCES)}
    cuts = list(read_cuts(tmp_path / "out"))
    assert [cut.supervisions[0].text for cut in cuts] == SENTENCES
    assert {cut.supervisions[0].speaker for cut in cuts} == {"flite:hum-300", "flite:hum-500", "piper:hum-700"}
    for cut in cuts:
        clip = load_cut(cut)
        assert pitch(clip) == pytest.approx(float(cut.supervisions[0].speaker.split("-")[1]), abs=3)
        spoken = len(cut.supervisions[0].text) * np.array([0.02, 0.03])
        # Silence around the words is cut to 0.05-0.3 s before and 0.1-0.3 s after, the peak drawn from 0.3-0.95.
        assert spoken[0] + 0.14 <= cut.duration <= spoken[1] + 0.61
        assert 0.29 <= np.abs(clip).max() <= 0.96
        assert level(clip[-1000:]) < 0.01


def test_held_out_voices_stay_out(sentences, tmp_path):
    voices(sentences=sentences, out=tmp_path / "train", excluded=["flite:hum-500"], splits=["train"], workers=1)
    voices(sentences=sentences, out=tmp_path / "heldout", patterns=["flite:hum-500"], splits=["test"], workers=1)
    trained = list(read_cuts(tmp_path / "train/train"))
    judged = list(read_cuts(tmp_path / "heldout/test"))
    assert {cut.supervisions[0].speaker for cut in trained} == {"flite:hum-300", "piper:hum-700"}
    assert {cut.supervisions[0].speaker for cut in judged} == {"flite:hum-500"}
    assert 500 not in {round(pitch(load_cut(cut)), -2) for cut in trained}
    assert [path.name for path in (tmp_path / "train").iterdir() if path.is_dir()] == ["train"]


def test_splits_and_limit_choose_among_the_sentences(sentences, tmp_path):
    judged = [text for text in SENTENCES if split_of(text) in ("dev", "test")]
    made = voices(sentences=sentences, out=tmp_path / "some", splits=["dev", "test"], limit=5, workers=1)
    assert sum(made.utterances.values()) == 5 < len(judged)
    said = {
        cut.supervisions[0].text: split for split in made.utterances for cut in read_cuts(tmp_path / "some" / split)
    }
    assert said == {text: split_of(text) for text in judged[:5]}
    voices(sentences=sentences, out=tmp_path / "whole", splits=["test"], whole=True, workers=1)
    assert [cut.supervisions[0].text for cut in read_cuts(tmp_path / "whole")] == [
        text for text in SENTENCES if split_of(text) == "test"
    ]


def test_what_an_engine_cannot_say_is_listed_and_the_rest_is_spoken(tmp_path):
    (tmp_path / "s.txt").write_text("one\nunspeakable\nmute\n")
    made = voices(sentences=tmp_path / "s.txt", out=tmp_path / "out", whole=True, patterns=["piper:*"], workers=1)
    assert made.utterances == {"all": 1}
    assert made.skipped == [
        "piper:hum-700 could not say 'unspeakable': cannot say that",
        "piper:hum-700 said nothing for 'mute'",
    ]
    assert json.loads((tmp_path / "out/corpus.json").read_text())["skipped"] == made.skipped


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"splits": ["train", "tset"]}, "--splits tset: choose among train, dev, test"),
        ({"limit": 0}, "--limit 0: give 1 or more"),
        ({"workers": 0}, "--workers 0: give 1 or more"),
        ({"splits": []}, "no sentence of the splits"),
    ],
)
def test_options_that_make_no_sense_are_refused(sentences, tmp_path, options, complaint):
    with pytest.raises(UserError, match=complaint):
        voices(sentences=sentences, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_sentences_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "blank.txt").write_text("\n...\n")
    for name in ("missing.txt", "latin.txt", "blank.txt"):
        with pytest.raises(UserError, match=f"--sentences .*{name}"):
            voices(sentences=tmp_path / name, out=tmp_path / "out")


@pytest.mark.parametrize(("program", "name"), [("espeak-ng", "en-us+f2"), ("flite", "slt")])
def test_a_real_engine_speaks(program, name, tmp_path, monkeypatch):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    monkeypatch.undo()
    assert Voice(program, name) in speech.installed_voices()
    (tmp_path / "s.txt").write_text("press one to leave a message\n")
    made = voices(
        sentences=tmp_path / "s.txt", out=tmp_path / "out", whole=True, patterns=[f"{program}:{name}"], workers=1
    )
    assert made.skipped == []
    (cut,) = read_cuts(tmp_path / "out")
    clip = load_cut(cut)
    # Six words take a second or two, loudly, and not at one pitch.
    assert 0.8 < cut.duration < 4
    assert 0.29 < np.abs(clip).max() < 0.96
    assert level(clip) > 0.02
    spectrum = np.abs(np.fft.rfft(clip)) ** 2
    assert spectrum.max() < 0.2 * spectrum.sum()


def test_engines_that_cannot_be_fetched_are_told_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("TRIMBRE_CACHE", str(tmp_path))
    speech._program.cache_clear()
    assert speech.fetch_engines() == [
        f"no apt-get on this machine, which would fetch {engine}: use a Debian or Ubuntu system"
        for engine in ("espeak-ng", "flite")
    ]


def test_a_longer_or_shorter_vocal_tract_moves_pitch_but_not_tempo(sentences, tmp_path):
    def heard(tract):
        out = tmp_path / str(tract)
        voices(sentences=sentences, out=out, patterns=["flite:hum-300"], whole=True, limit=12, tract=tract)
        return [(pitch(clip), len(clip)) for clip in map(load_cut, read_cuts(out))]

    plain, varied = heard(0.0), heard(0.3)
    assert all(hertz == pytest.approx(300, rel=0.02) for hertz, _ in plain)
    pitches = [hertz / 300 for hertz, _ in varied]
    assert min(pitches) < 0.9
    assert max(pitches) > 1.1
    assert all(1 / 1.32 < one < 1.32 for one in pitches)
    # Only the silence that is left around a sentence, up to 0.3 s on either side, is drawn anew.
    speech = sum(length for _, length in plain) / sum(length for _, length in varied)
    assert speech == pytest.approx(1, abs=0.1)


def test_a_vocal_tract_that_cannot_be_is_refused(sentences, tmp_path):
    with pytest.raises(UserError, match="--tract 1: give a share"):
        voices(sentences=sentences, out=tmp_path / "out", tract=1.0)
