"""A tree in LibriSpeech's layout: its parts become data that can be given by their folders."""

import pytest
from tones import pitch, tone

from trimbre.cli import run
from trimbre.data import librispeech as recipe
from trimbre.data.audio import load_cut, write_audio
from trimbre.data.cuts import read_cuts
from trimbre.data.librispeech import librispeech
from trimbre.errors import UserError

SAID = {"84-121123-0000": "GO ON", "84-121123-0001": "NEVER MIND", "174-50561-0000": "AND SO"}


@pytest.fixture
def tree(tmp_path):
    for hertz, (name, text) in zip((300, 500, 700), SAID.items(), strict=True):
        speaker, chapter, _ = name.split("-")
        folder = tmp_path / "LibriSpeech/dev-clean" / speaker / chapter
        folder.mkdir(parents=True, exist_ok=True)
        write_audio(folder / f"{name}.flac", tone(hertz, 0.4))
        with (folder / f"{speaker}-{chapter}.trans.txt").open("a") as file:
            file.write(f"{name} {text}\n")
    return tmp_path


@pytest.mark.parametrize("place", ["", "LibriSpeech"])
def test_a_part_becomes_data_beside_its_audio(tree, tmp_path, place):
    made = librispeech(source=tree / place)
    assert made.utterances == {"dev-clean": 3}
    assert made.hours["dev-clean"] == pytest.approx(3 * 0.4 / 3600, abs=1e-4)
    (tree / "LibriSpeech").rename(tree / "moved")
    cuts = sorted(read_cuts(tree / "moved/dev-clean"), key=lambda cut: pitch(load_cut(cut)))
    assert [cut.supervisions[0].text for cut in cuts] == list(SAID.values())
    assert [cut.supervisions[0].speaker for cut in cuts] == ["84", "84", "174"]


def test_what_is_missing_is_named(tree, tmp_path):
    with pytest.raises(UserError, match="--parts dev-dirty: LibriSpeech has dev-clean"):
        librispeech(source=tree, parts=["dev-dirty"])
    with pytest.raises(UserError, match=r"--parts test-clean: there is no such folder in .*LibriSpeech"):
        librispeech(source=tree, parts=["test-clean"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no part of LibriSpeech"):
        librispeech(source=tmp_path / "empty")


def test_it_can_be_downloaded_first(tree, tmp_path, monkeypatch, capsys):
    asked = []

    def download(target, *, dataset_parts):
        asked.append(dataset_parts)
        (tree / "LibriSpeech").rename(target / "LibriSpeech")

    monkeypatch.setattr(recipe, "download_librispeech", download)
    (tmp_path / "new").mkdir()
    assert run(["corpus", "librispeech", str(tmp_path / "new"), "--download", "--parts", "dev-clean"]) == 0
    assert asked == [["dev-clean"]]
    assert "dev-clean" in capsys.readouterr().out

    def offline(target, *, dataset_parts):
        raise OSError("no network")

    monkeypatch.setattr(recipe, "download_librispeech", offline)
    with pytest.raises(UserError, match="cannot download LibriSpeech: no network"):
        librispeech(source=tmp_path / "new", download=True)
