"""Corpora of real recordings out of Debian packages: what is in them, and that none is written with a part missing."""

import gzip
import sys
from pathlib import Path

import pytest
import soundfile
from helpers.tones import encode, pitch, tone

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "corpora"))

from prompts import prompts, transcripts
from readings import readings

from trimbre.data.audio import load_cut
from trimbre.data.cuts import MANIFEST, read_cuts
from trimbre.data.splits import split_of
from trimbre.errors import UserError


def said(path) -> dict[str, str]:
    return {cut.id: cut.supervisions[0].text for cut in read_cuts(path)}


LISTING = """\
; Core Sounds
;hello: not this
activated: Activated.
hello: Hello, world
digits/1: 1
beep: [a simple beep tone]
join: <beep>
silence/1: (1 second of silence)
broken: this file is empty
gone: there is no such file
dots: ...
 no colon
"""


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A cache in which packages are unpacked already, and no apt to fetch any."""
    monkeypatch.setenv("TRIMBRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    return tmp_path / "cache" / "debian"


@pytest.fixture
def french(packages):
    """The unpacked French prompts -> the folder of the recordings."""
    name = "asterisk-core-sounds-fr"
    listing = packages / name / "usr/share/doc" / name / "core-sounds-fr.txt.gz"
    sounds = packages / f"{name}-g722/usr/share/asterisk/sounds/fr_CA_f_June"
    listing.parent.mkdir(parents=True)
    listing.write_bytes(gzip.compress(LISTING.encode()))
    for file in "activated hello digits/1 beep join silence/1 dots unlisted".split():
        (sounds / file).parent.mkdir(parents=True, exist_ok=True)
        encode(sounds / f"{file}.g722", [tone(500, 0.3)], rate=16_000, codec="g722", format="g722")
    return sounds


def test_prompts_are_what_is_said_and_not_comments_or_noises(french, tmp_path):
    made = prompts(language="fr", out=tmp_path / "out")
    expected = {"fr-activated": "Activated.", "fr-digits-1": "1", "fr-hello": "Hello, world"}
    assert sum(made.utterances.values()) == 3
    for id, text in expected.items():
        (cut,) = (cut for cut in read_cuts(tmp_path / "out" / split_of(text)) if cut.id == id)
        assert cut.supervisions[0].text == text
        assert cut.supervisions[0].language == "fr"
        assert (cut.duration, pitch(load_cut(cut))) == (0.3, 500)
    assert made.skipped == []
    assert dict(transcripts(iter(LISTING.splitlines()))).keys() == {
        "activated", "hello", "digits/1", "broken", "gone", "dots"
    }  # fmt: skip


def test_prompts_that_cannot_be_decoded_are_not_left_out_in_silence(french, tmp_path):
    (french / "broken.g722").touch()
    with pytest.raises(UserError, match=r"1 of the first 2 .* asterisk-core-sounds-fr failed.*broken\.g722 is empty"):
        prompts(language="fr", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prompts_that_cannot_be_had(packages, tmp_path):
    with pytest.raises(UserError, match="--language de: there are prompts in en, es, fr"):
        prompts(language="de", out=tmp_path / "out")
    with pytest.raises(UserError, match=r"no apt-get .* asterisk-core-sounds-es"):
        prompts(language="es", out=tmp_path / "out")
    for package in ("asterisk-core-sounds-es", "asterisk-core-sounds-es-g722"):
        (packages / package).mkdir(parents=True)
    with pytest.raises(UserError, match=r"asterisk-core-sounds-es .* lists no transcripts"):
        prompts(language="es", out=tmp_path / "out")


def test_readings_are_ten_sentences_of_two_sorts(packages, tmp_path):
    data = packages / "pocketsphinx-testdata/usr/share/pocketsphinx/test/data"
    for sort, listing, line in [
        ("librivox", "transcription", "<s> sentence {0} </s> (file-{0})"),
        ("cards", "cards.transcription", "the {0} of clubs (00{0})"),
    ]:
        (data / sort).mkdir(parents=True)
        (data / sort / listing).write_text("".join(f"{line.format(number)}\n" for number in range(5)) + "\n")
        for number in range(5):
            name = {"librivox": f"file-{number}", "cards": f"00{number}"}[sort]
            soundfile.write(data / sort / f"{name}.wav", tone(300 + 100 * number, 0.2, 8000), 8000)
    made = readings(out=tmp_path / "out")
    assert made.utterances == {"all": 10}
    found = said(tmp_path / "out")
    assert found["librivox-file-3"] == "sentence 3"
    assert found["cards-001"] == "the 1 of clubs"
    assert [pitch(load_cut(cut)) for cut in read_cuts(tmp_path / "out")][:5] == [300, 400, 500, 600, 700]
    assert (tmp_path / "out" / MANIFEST).is_file()
    (data / "cards/004.wav").unlink()
    with pytest.raises(UserError, match=r"1 of the first 10 .* pocketsphinx-testdata failed .*004\.wav"):
        readings(out=tmp_path / "again")
    assert not (tmp_path / "again").exists()
