"""Sentences spoken by random voices: an engine of tones stands in for the real ones, which also get their say."""

import gzip
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.tones import level, pitch, tone

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "corpora"
sys.path.insert(0, str(RECIPE))

import engines  # noqa: E402
import voices as speech  # noqa: E402
from debian import fetch  # noqa: E402
from engines import Voice  # noqa: E402
from script import checked  # noqa: E402
from voices import choose, voices  # noqa: E402

from trimbre.data.audio import load_cut  # noqa: E402
from trimbre.data.cuts import read_cuts  # noqa: E402
from trimbre.data.folder import folder  # noqa: E402
from trimbre.data.splits import SPLITS, split_of  # noqa: E402
from trimbre.data.text import normalise  # noqa: E402
from trimbre.errors import UserError  # noqa: E402

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
    monkeypatch.setattr(engines, "ENGINES", {"flite": humming, "piper": humming})
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


def test_every_sentence_has_the_voice_that_the_corpus_names(sentences, tmp_path):
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
    evaluated = list(read_cuts(tmp_path / "heldout/test"))
    assert {cut.supervisions[0].speaker for cut in trained} == {"flite:hum-300", "piper:hum-700"}
    assert {cut.supervisions[0].speaker for cut in evaluated} == {"flite:hum-500"}
    assert 500 not in {round(pitch(load_cut(cut)), -2) for cut in trained}
    assert [path.name for path in (tmp_path / "train").iterdir() if path.is_dir()] == ["train"]


def test_splits_and_limit_choose_among_the_sentences(sentences, tmp_path):
    evaluated = [text for text in SENTENCES if split_of(text, language="en") in ("dev", "test")]
    made = voices(sentences=sentences, out=tmp_path / "some", splits=["dev", "test"], limit=5, workers=1)
    assert sum(made.utterances.values()) == 5 < len(evaluated)
    said = {
        cut.supervisions[0].text: split for split in made.utterances for cut in read_cuts(tmp_path / "some" / split)
    }
    assert said == {text: split_of(text, language="en") for text in evaluated[:5]}
    voices(sentences=sentences, out=tmp_path / "whole", splits=["test"], whole=True, workers=1)
    assert [cut.supervisions[0].text for cut in read_cuts(tmp_path / "whole")] == [
        text for text in SENTENCES if split_of(text, language="en") == "test"
    ]


def test_what_an_engine_cannot_say_is_listed_and_the_rest_is_spoken(tmp_path):
    lines = [*(f"sentence {number}" for number in range(198)), "unspeakable", "mute"]
    (tmp_path / "s.txt").write_text("\n".join(lines))
    made = voices(sentences=tmp_path / "s.txt", out=tmp_path / "out", whole=True, patterns=["piper:*"], workers=1)
    assert made.utterances == {"all": 198}
    assert made.skipped == [
        "piper:hum-700 could not say 'unspeakable': cannot say that",
        "piper:hum-700 said nothing for 'mute'",
    ]
    assert json.loads((tmp_path / "out/corpus.json").read_text())["skipped"] == made.skipped


def test_a_corpus_of_which_more_than_one_percent_failed_is_not_written(tmp_path):
    lines = [*(f"sentence {number}" for number in range(197)), "unspeakable", "mute", "mute too"]
    (tmp_path / "s.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"3 of the first 200 utterances of piper failed .*'unspeakable': cannot say"):
        voices(sentences=tmp_path / "s.txt", out=tmp_path / "out", whole=True, patterns=["piper:*"], workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["s.txt"]


def test_an_engine_of_which_nothing_came_is_named_however_small_its_part():
    results = [("flite", number) for number in range(999)]
    assert list(checked("speaking", [*results, ("piper", 1)], 1000)) == [*range(999), 1]
    with pytest.raises(UserError, match=r"1 of the first 1 utterances of piper failed \(100.0%\).*it broke"):
        list(checked("speaking", [*results, ("piper", "it broke")], 1000))


def test_the_engine_that_fails_most_is_named():
    results = [("flite", "a"), *(("flite", 1) for _ in range(50)), ("piper", 1), ("piper", "b"), ("piper", "c")]
    with pytest.raises(UserError, match=r"2 of the first 3 utterances of piper failed .*the first: b"):
        list(checked("speaking", results, 200))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"splits": ["train", "tset"]}, "tset"),
        ({"limit": 0}, "--limit 0: give 1 or more"),
        ({"workers": 0}, "--workers 0: give 1 or more"),
        ({"splits": []}, "no sentence"),
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
        with pytest.raises(UserError, match=name):
            voices(sentences=tmp_path / name, out=tmp_path / "out")


def test_corpora_of_two_sources_share_no_evaluated_sentence_with_any_training_set(tmp_path):
    texts = [f"{first} {second}" for first in "alpha bravo charlie delta echo golf".split() for second in "abcdefghij"]
    # One source has the sentences in capitals, with digits; the other as plain words; each has some of its own.
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    rows = ["file_name,text"]
    for number, text in enumerate(texts[:50]):
        soundfile.write(recordings / f"{number}.wav", tone(440, 0.02, 8000), 8000)
        rows.append(f'{number}.wav,"{text.upper()}, 3!"')
    (recordings / "metadata.csv").write_text("\n".join(rows))
    (tmp_path / "sentences.txt").write_text("\n".join(f"{text} three" for text in texts[10:]))
    folder(source=recordings, out=tmp_path / "a", language="en")
    voices(sentences=tmp_path / "sentences.txt", out=tmp_path / "b", workers=1)
    said: dict[str, set[str]] = {}
    for split in SPLITS:
        for corpus in "ab":
            mine = {normalise(cut.supervisions[0].text, language="en") for cut in read_cuts(tmp_path / corpus / split)}
            assert mine
            said[split] = said.get(split, set()) | mine
    assert said["dev"] | said["test"] | said["train"] == {f"{text} three" for text in texts}
    assert not said["train"] & (said["dev"] | said["test"])
    assert not said["dev"] & said["test"]


def test_a_longer_or_shorter_vocal_tract_moves_pitch_but_not_tempo(sentences, tmp_path):
    def spoken(tract):
        out = tmp_path / str(tract)
        voices(sentences=sentences, out=out, patterns=["flite:hum-300"], whole=True, limit=12, tract=tract)
        return [(pitch(clip), len(clip)) for clip in map(load_cut, read_cuts(out))]

    plain, varied = spoken(0.0), spoken(0.3)
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


# The command, with executables in the place of the engines

FLITE = """#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in -o) out="$2" ;; -t) text="$2" ;; esac
  shift
done
case "$text" in *unspeakable*) echo "flite: no such sound" >&2; exit 3 ;; esac
cp "$TONE" "$out"
"""
ESPEAK = """#!/bin/sh
echo "espeak-ng: error while loading shared libraries: libpulsecommon-16.1.so: cannot open shared object file" >&2
exit 127
"""


@pytest.fixture
def command(tmp_path):
    """Run voices.py in a folder of its own, where flite is a script that plays a tone and espeak-ng one that fails."""
    tools, place = tmp_path / "tools", tmp_path / "place"
    tools.mkdir()
    place.mkdir()
    soundfile.write(tmp_path / "tone.wav", tone(440, 0.5), 16_000)
    for name, script in {"flite": FLITE, "espeak-ng": ESPEAK}.items():
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    paths = {"PATH": f"{tools}:{os.environ['PATH']}", "TONE": str(tmp_path / "tone.wav")}

    def run(lines: list[str], *options: str) -> subprocess.CompletedProcess:
        (place / "s.txt").write_text("\n".join(lines))
        line = [sys.executable, str(RECIPE / "voices.py"), "--sentences", "s.txt", "--out", "out", "--whole", *options]
        return subprocess.run(line, cwd=place, env={**os.environ, **paths}, capture_output=True, text=True, check=False)

    return run, place


@pytest.mark.slow
def test_the_command_writes_a_corpus_and_prints_its_size(command):
    run, place = command
    done = run(["one", "two"], "--voices", "flite:*", "--workers", "1", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["utterances"] == {"all": 2}
    assert all(pitch(load_cut(cut)) == pytest.approx(440, abs=2) for cut in read_cuts(place / "out"))


@pytest.mark.parametrize(
    ("lines", "options", "parts"),
    [
        (["one"] * 20, ["--voices", "flite:*", "espeak-ng:*"], ["espeak-ng", "127", "libpulsecommon-16.1.so"]),
        (["one"] * 20 + ["unspeakable"], ["--voices", "flite:*"], ["flite", "1 of", "no such sound"]),
        (["one"], ["--voices", "flite:nobody"], ["--voices flite:nobody"]),
        (["one"], ["--voices", "flite:*", "--limit", "0"], ["--limit 0"]),
    ],
)
@pytest.mark.slow
def test_what_is_wrong_is_one_sentence_and_nothing_is_left_behind(command, lines, options, parts):
    run, place = command
    done = run(lines, *options, "--workers", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("voices.py: ")
    assert done.stderr.count("\n") == 1
    assert all(part in done.stderr for part in parts)
    assert [path.name for path in place.iterdir()] == ["s.txt"]


# The real engines, as Debian has them

LACKING = [name for name in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(name) is None]


@pytest.mark.skipif(bool(LACKING), reason=f"there is no {' and no '.join(LACKING)} on this machine")
@pytest.mark.slow
def test_fetched_engines_speak(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("TRIMBRE_CACHE", str(tmp_path / "cache"))
    # Everything on this machine but the engines, so that the fetched ones have to do.
    tools = tmp_path / "tools"
    tools.mkdir()
    for place in map(Path, os.environ["PATH"].split(":")):
        for tool in place.iterdir() if place.is_dir() else ():
            if tool.name not in engines.FETCHED and not (tools / tool.name).is_symlink():
                (tools / tool.name).symlink_to(tool)
    monkeypatch.setenv("PATH", str(tools))
    engines.program.cache_clear()
    try:
        fetch(["espeak-ng-data"])
    except UserError as error:
        pytest.skip(f"apt brings nothing here: {error}")
    assert not any(engines.program(engine) for engine in engines.FETCHED)
    engines.fetch_engines()
    (tmp_path / "s.txt").write_text("press one to leave a message\n")
    for engine, name in (("espeak-ng", "en-us+f2"), ("flite", "slt")):
        assert Voice(engine, name) in engines.installed_voices()
        out = tmp_path / engine
        voices(sentences=tmp_path / "s.txt", out=out, whole=True, patterns=[f"{engine}:{name}"], workers=1)
        (cut,) = read_cuts(out)
        clip = load_cut(cut)
        # Six words take a second or two, loudly, and not at one pitch.
        assert 0.8 < cut.duration < 4
        assert 0.29 < np.abs(clip).max() < 0.96
        assert level(clip) > 0.02
        spectrum = np.abs(np.fft.rfft(clip)) ** 2
        assert spectrum.max() < 0.2 * spectrum.sum()
    engines.program.cache_clear()


def test_engines_that_cannot_be_fetched_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("TRIMBRE_CACHE", str(tmp_path))
    engines.program.cache_clear()
    with pytest.raises(UserError, match="no apt-get on this machine, which would fetch espeak-ng"):
        engines.fetch_engines()
    engines.program.cache_clear()
