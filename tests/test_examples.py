"""Every script in examples/ runs as its docstring says."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from helpers.families import FAMILIES, shaken

from trimbre.models.checkpoint import save

EXAMPLES = Path(__file__).parent.parent / "examples"
CLIP = Path(__file__).parent / "recordings" / "please-hold.flac"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    family = FAMILIES["parakeet"]
    return save(shaken(family.build()), family.processor(), tmp_path_factory.mktemp("examples") / "dense")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def example(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return example


def test_all_examples_are_tested():
    tested = Path(__file__).read_text()
    assert all(f'"{script.name}"' in tested for script in EXAMPLES.glob("*.py"))


@pytest.mark.slow
def test_prune_then_load(run, checkpoint, noise_corpus, tmp_path):
    assert "saved to half" in run("prune.py", checkpoint, noise_corpus, noise_corpus, "half", "--steps", 1)
    assert run("load_pruned.py", "half", CLIP).count("ParakeetForCTC") == 2


@pytest.mark.slow
def test_export_and_run(run, checkpoint):
    run("export_and_run.py", checkpoint, CLIP, "exported")
    assert Path("exported/model.onnx").is_file()


def test_own_method(run, checkpoint, noise_corpus):
    shares = re.findall(r"([\d.]+)%", run("own_method.py", checkpoint, noise_corpus))
    assert all(25 < float(share) < 35 for share in shares)  # tiny modules are coarse
    assert len(shares) == 2


def test_own_family(run):
    out = run("own_family.py")
    dense, small = (int(count.replace(",", "")) for count in re.findall(r"[\d,]{4,}", out))
    assert small < 0.8 * dense
    assert "masked equals sliced" in out
