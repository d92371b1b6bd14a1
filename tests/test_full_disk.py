"""A disk that is full: the system's own refusal, one sentence that names the file, and nothing half written."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, shaken

from trimbre.errors import UserError
from trimbre.files import directory_written_whole, written_whole
from trimbre.models.checkpoint import save

# The kernel refuses what passes a limit on the size of files as it does on a full disk, and no disk is needed for it.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
from trimbre.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    family = FAMILIES["parakeet"]
    torch.manual_seed(0)
    return str(save(shaken(family.build()), family.processor(), tmp_path_factory.mktemp("models") / "teacher"))


def limited(*arguments: str) -> subprocess.CompletedProcess:
    """Run a command that may write no file of more than 20 kB."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, timeout=120, cwd="/"
    )


def refused(done: subprocess.CompletedProcess, place: Path) -> None:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert line.startswith(f"trimbre: cannot write {place}")
    assert "make room" in line
    assert "Traceback" not in done.stderr


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("save_every", ["1", "0"])  # full when a state is saved, or the model itself
def test_pruning_onto_a_full_disk(teacher, noise_corpus, tmp_path, save_every):
    out = tmp_path / "half"
    steps = f"--method l0 --learn-steps 2 --recover-steps 1 --save-every {save_every}".split()
    steps += "--calibration-batches 1 --refit-batches 1".split()
    batches = ["--max-duration", "6", "--buckets", "2", "--precision", "fp32"]
    done = limited("prune", teacher, "--train", str(noise_corpus), "--out", str(out), *steps, *batches)
    refused(done, tmp_path / "half.run")
    assert left_in(tmp_path) == ["half.run/settings.json"]


def test_a_corpus_onto_a_full_disk(noise_corpus, tmp_path):
    out = tmp_path / "mine"
    refused(limited("corpus", "folder", str(noise_corpus / "audio"), "--out", str(out)), out)
    assert left_in(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full is Linux's")
def test_a_file_onto_a_full_disk(tmp_path):
    for written in (written_whole, directory_written_whole):
        with pytest.raises(UserError, match="mine: the disk is full; make room"), written(tmp_path / "mine"):
            Path("/dev/full").write_text("anything")
        assert left_in(tmp_path) == []
