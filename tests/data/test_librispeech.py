"""A tree in LibriSpeech's layout: its parts become data that can be given by their folders."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.families import FAMILIES, shaken
from helpers.places import ROOT
from helpers.tones import pitch, tone

from trimbre.cli import run
from trimbre.data import librispeech as recipe
from trimbre.data.audio import load_cut, write_audio
from trimbre.data.cuts import read_cuts
from trimbre.data.librispeech import librispeech
from trimbre.errors import UserError
from trimbre.models.checkpoint import save

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
    made = librispeech(source=str(tree / place))
    assert made.utterances == {"dev-clean": 3}
    assert made.hours["dev-clean"] == pytest.approx(3 * 0.4 / 3600, abs=1e-4)
    (tree / "LibriSpeech").rename(tree / "moved")
    cuts = sorted(read_cuts(tree / "moved/dev-clean"), key=lambda cut: pitch(load_cut(cut)))
    assert [cut.supervisions[0].text for cut in cuts] == list(SAID.values())
    assert [cut.supervisions[0].speaker for cut in cuts] == ["84", "84", "174"]


def test_what_is_missing_is_named(tree, tmp_path):
    with pytest.raises(UserError, match="parts='dev-dirty': LibriSpeech has dev-clean"):
        librispeech(source=tree, parts=["dev-dirty"])
    with pytest.raises(UserError, match=r"parts='test-clean': there is no such folder in .*LibriSpeech"):
        librispeech(source=tree, parts=["test-clean"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty': it holds no part of LibriSpeech"):
        librispeech(source=tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("84-121123-0001.flac", "junk", "84-121123-0001.flac holds no audio"),
        ("84-121123-0001.flac", "", "84-121123-0001.flac is empty"),
        (
            "84-121123.trans.txt",
            "84-121123-0000 GO ON\n84-121123-0001\n",
            "trans.txt, line 2: the name of an utterance",
        ),
    ],
)
def test_a_damaged_file_of_a_part_is_named(tree, capsys, name, content, said):
    (tree / "LibriSpeech/dev-clean/84/121123" / name).write_text(content)
    assert run(["corpus", "librispeech", str(tree)]) == 2
    assert re.search(said, " ".join(capsys.readouterr().err.split()))
    assert not list(tree.rglob("cuts.jsonl.gz"))


def test_a_transcript_without_audio_is_noted_and_a_part_is_told_from_its_tree(tree):
    (tree / "LibriSpeech/dev-clean/84/121123/84-121123-0001.flac").unlink()
    made = librispeech(source=tree)
    assert made.utterances == {"dev-clean": 2}
    assert made.notes == ["1 utterances of dev-clean have a transcript and no audio, such as 84-121123-0001"]
    with pytest.raises(UserError, match=re.escape(f"give the folder that it is in, {tree / 'LibriSpeech'}")):
        librispeech(source=tree / "LibriSpeech/dev-clean")


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


@pytest.mark.slow
def test_the_recipe_goes_from_a_tree_to_a_judged_model(tree, tmp_path):
    whole = tree / "LibriSpeech/dev-clean"
    for part in ("dev-other", "test-clean", "test-other", "train-clean-100", "train-other-500"):
        (whole.parent / part).symlink_to(whole)
    family = FAMILIES["parakeet"]
    torch.manual_seed(0)
    model = save(shaken(family.build()), family.processor(), tmp_path / "model")
    steps = "--method l0 --learn-steps 2 --recover-steps 1 --max-duration 2 --buckets 1 --workers 0".split()
    steps += "--calibration-batches 2 --refit-batches 2".split()
    recipe = ROOT / "recipes/librispeech/prune.sh"
    command = [str(recipe), str(tree), str(model), str(tmp_path / "half"), "--budget", "params", *steps]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "half/plan.json").is_file()
    for name in ("train-other-500", "other", "times faster"):
        assert name in done.stdout
