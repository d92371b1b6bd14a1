"""A disk that is full: the system's own refusal, one sentence that names the file, and nothing half written."""

from pathlib import Path

import pytest
import torch
from helpers.families import FAMILIES, shaken
from helpers.forks import Ended

from trimbre.errors import UserError
from trimbre.files import directory_written_whole, written_whole
from trimbre.models.checkpoint import save

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    family = FAMILIES["parakeet"]
    torch.manual_seed(0)
    return str(save(shaken(family.build()), family.processor(), tmp_path_factory.mktemp("models") / "teacher"))


def refused(done: Ended, place: Path) -> None:
    assert done.code == 2, done.err
    (line,) = done.err.strip().splitlines()[-1:]
    assert line.startswith(f"trimbre: cannot write {place}")
    assert "make room" in line
    assert "Traceback" not in done.err


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("save_every", ["1", "0"])  # full when a state is saved, or the model itself
def test_pruning_onto_a_full_disk(forks, teacher, noise_corpus, tmp_path, save_every):
    out = tmp_path / "half"
    steps = f"--method l0 --learn-steps 2 --recover-steps 1 --save-every {save_every}".split()
    steps += "--calibration-batches 1 --refit-batches 1".split()
    batches = ["--max-duration", "6", "--buckets", "2", "--precision", "fp32"]
    given = ["prune", teacher, "--train", str(noise_corpus), "--out", str(out), *steps, *batches]
    (done,) = forks.run("helpers.full_disk:run", given)
    refused(done, tmp_path / "half.run")
    assert left_in(tmp_path) == ["half.run/settings.json"]


def test_a_corpus_onto_a_full_disk(forks, noise_corpus, tmp_path):
    out = tmp_path / "mine"
    (done,) = forks.run("helpers.full_disk:run", ["corpus", "folder", str(noise_corpus / "audio"), "--out", str(out)])
    refused(done, out)
    assert left_in(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full is Linux's")
def test_a_file_onto_a_full_disk(tmp_path):
    for written in (written_whole, directory_written_whole):
        with pytest.raises(UserError, match="mine: the disk is full; make room"), written(tmp_path / "mine"):
            Path("/dev/full").write_text("anything")
        assert left_in(tmp_path) == []
