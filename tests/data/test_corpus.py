"""Corpora from folders: what is in them, and that nothing half made is left."""

import json

import numpy as np
import pytest
import soundfile
from helpers.tones import encode, pitch, tone

from trimbre.data.audio import load_cut
from trimbre.data.corpus import Utterance, write_corpus
from trimbre.data.cuts import read_cuts
from trimbre.data.folder import folder
from trimbre.data.splits import split_of
from trimbre.errors import UserError


def utterances():
    for number, split in enumerate(["train", "test", "train"]):
        yield Utterance(f"u{number}", tone(300 + 200 * number, 0.5), f"text {number}", split, "me", "en")
        yield f"clip {number} is broken"
    yield Utterance("silent", np.zeros(0, dtype=np.float32), "nothing", "dev")


def said(path) -> dict[str, str | None]:
    return {cut.id: cut.supervisions[0].text if cut.supervisions else None for cut in read_cuts(path)}


def test_a_corpus_holds_its_splits_and_says_what_it_left_out(tmp_path):
    made = write_corpus(utterances(), tmp_path / "out", source="me", licence="mine")
    assert made.utterances == {"train": 2, "test": 1}
    assert made.hours == {"train": round(1 / 3600, 4), "test": round(0.5 / 3600, 4)}
    assert made.skipped == [*(f"clip {number} is broken" for number in range(3)), "silent holds no audio"]
    assert said(tmp_path / "out/train") == {"u0": "text 0", "u2": "text 2"}
    assert [pitch(load_cut(cut)) for cut in read_cuts(tmp_path / "out/train")] == [300, 700]
    (cut,) = read_cuts(tmp_path / "out/test")
    assert (cut.supervisions[0].speaker, cut.supervisions[0].language) == ("me", "en")
    note = json.loads((tmp_path / "out/corpus.json").read_text())
    assert note == {key: value for key, value in made.to_json().items() if key != "out"}
    # Neither an empty split nor anything left over from writing.
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["corpus.json", "test", "train"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_not_split_stands_in_one_set(tmp_path):
    made = write_corpus([Utterance("a", tone(300, 0.1), None, None)], tmp_path / "out", source="s", licence="l")
    assert made.utterances == {"all": 1}
    assert said(tmp_path / "out") == {"a": None}


def test_nothing_appears_if_writing_fails_midway(tmp_path):
    def failing():
        yield from utterances()
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_corpus(failing(), tmp_path / "out", source="s", licence="l")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_written_over(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("full", "file"):
        with pytest.raises(UserError, match=f"out=.*/{name}.: it already exists"):
            write_corpus(utterances(), tmp_path / name, source="s", licence="l")
    (tmp_path / "empty").mkdir()
    write_corpus(utterances(), tmp_path / "empty", source="s", licence="l")
    assert (tmp_path / "empty/corpus.json").is_file()
    assert (tmp_path / "full/mine.txt").read_text() == (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize(("clips", "reason"), [([], "it is empty"), (["a.wav is broken"], "a.wav is broken")])
def test_a_corpus_of_nothing_says_why(tmp_path, clips, reason):
    with pytest.raises(UserError, match=f"no usable audio in s: {reason}"):
        write_corpus(clips, tmp_path / "out", source="s", licence="l")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def recordings(tmp_path):
    """A wav, an m4a, a bare G.722 and a file that is no audio."""
    source = tmp_path / "recordings"
    (source / "sub").mkdir(parents=True)
    soundfile.write(source / "a.WAV", np.stack([tone(300, 0.5, 8000)] * 2, axis=1), 8000, format="WAV")
    encode(source / "sub" / "b c.m4a", [tone(500, 0.5, 44_100)], rate=44_100, codec="aac")
    encode(source / "d.g722", [tone(700, 0.5)], rate=16_000, codec="g722", format="g722")
    (source / "e.mp3").write_text("this is no sound")
    (source / "notes.md").write_text("nor is this")
    return source


def test_a_folder_with_transcripts_beside_its_recordings(recordings, tmp_path):
    (recordings / "a.txt").write_text(" Hello, 1! \n", encoding="utf-8-sig")
    (recordings / "sub/b c.txt").write_text("\n")
    made = folder(source=recordings, out=tmp_path / "out")
    assert split_of("Hello, 1!") == split_of("sub/b c.m4a") == "train"  # a silence is divided by its name
    assert made.utterances == {"train": 2, "all": 1}
    # A blank transcript says that nothing is spoken.
    assert said(tmp_path / "out/train") == {"000000-a": "Hello, 1!", "000003-sub-b-c": ""}
    assert said(tmp_path / "out") == {"000001-d": None}
    assert made.notes == ["1 of 4 recordings have an empty transcript: nothing is spoken in them"]
    assert [pitch(load_cut(cut)) for cut in read_cuts(tmp_path / "out/train")] == pytest.approx([300, 500], abs=1)
    assert len(made.skipped) == 1
    assert str(recordings / "e.mp3") in made.skipped[0]


def test_a_folder_with_metadata_has_only_what_is_listed(recordings, tmp_path):
    rows = ["file_name,transcription", "a.WAV,one", "sub/b c.m4a,two", "gone.wav,three", "d.g722,"]
    (recordings / "metadata.csv").write_text("\n".join(rows))
    (recordings / "a.txt").write_text("not this")
    made = folder(source=recordings, out=tmp_path / "out", split=False)
    assert made.utterances == {"all": 3}
    assert list(said(tmp_path / "out").values()) == ["one", "two", ""]
    assert [str(recordings / "gone.wav") in reason for reason in made.skipped] == [True]


def test_a_folder_of_recordings_alone_is_unlabelled(recordings, tmp_path):
    (recordings / "d.g722").rename(recordings / f"{'é' * 124}.g722")  # copied under a longer name, with a number
    made = folder(source=recordings, out=tmp_path / "out")
    assert made.utterances == {"all": 3}
    assert set(said(tmp_path / "out").values()) == {None}


def test_folders_that_cannot_be_brought_in(recordings, tmp_path):
    with pytest.raises(UserError, match=r"source=.*/missing.: there is no such folder"):
        folder(source=tmp_path / "missing", out=tmp_path / "out")
    (recordings / "a.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(UserError, match=r"/a\.txt, line 1: not UTF-8, save the file"):
        folder(source=recordings, out=tmp_path / "out")
    (recordings / "metadata.jsonl").write_text('{"place": "a.WAV"}')
    with pytest.raises(UserError, match=r"metadata\.jsonl, line 1: no file_name \(columns: place\)"):
        folder(source=recordings, out=tmp_path / "out")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match=r"no usable audio in .*/bare: it is empty"):
        folder(source=tmp_path / "bare", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
