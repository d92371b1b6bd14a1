"""The comparison of methods: every entry runs on a tiny model, and the testbeds are what they say."""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from helpers.mini_recogniser import mini_parakeet, mini_processor

from trimbre.pruning.methods.registry import method_called

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "methods"))

from cells import cells, read_testbed
from running import config_of

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "methods"
TESTBEDS = [*sorted(FOLDER.glob("*.json")), ROOT / "recipes" / "librispeech" / "methods.json"]


def script():
    """`python benchmarks/methods`, as a module."""
    spec = spec_from_file_location("benchmarks_methods", FOLDER / "__main__.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", TESTBEDS, ids=lambda path: path.stem)
def test_testbeds_can_be_read(path):
    """Every cell has options that are accepted, and a file of its own."""
    testbed = read_testbed(path)
    found = list(cells(testbed))
    assert found
    assert len({cell.file for cell in found}) == len(found)
    for cell in found:
        config = config_of(cell, testbed)
        total = config.recovery.steps + (config.gates.steps if method_called(config.method).TRAINS else 0)
        scratch = cell.entry.kind == "scratch"
        assert total == testbed.get("scratch_steps" if scratch else "steps", testbed["steps"]), cell.title


@pytest.fixture
def testbed(tmp_path, noise_corpus, monkeypatch):
    """Two steps of a model of one block, and the folder of its cells."""
    monkeypatch.chdir(tmp_path)
    mini_parakeet().save_pretrained("model")
    mini_processor().save_pretrained("model")
    here = {
        "model": "model",
        "train": str(noise_corpus),
        "max_duration": 4,
        "entries": "methods",
        "steps": 2,
        "learn_steps": 1,
        "batches": 1,
        "seeds": 1,
        "shares": [0.1],
        "main": "noise",
        "judged": {"dev": str(noise_corpus), "watch": {}},
        "normalize": "basic",
    }

    def write(**more) -> Path:
        path = tmp_path / "bed.json"
        path.write_text(json.dumps(here | more))
        return path

    return write


KINDS = [
    "control",
    "curvature",
    "l0, through the recovery",
    "low rank",
    "low rank, parameters alone",
    "DPHuBERT",
    "small from scratch",
]
"""Entries of every kind; that every method prunes is tested in tests/pruning."""


@pytest.mark.slow
def test_entries_of_every_kind_run_and_the_table_compares_them(testbed, capsys):
    path, main = testbed(only=KINDS), script().main
    assert main(["run", str(path)]) == 0
    cells_done = {file.stem: json.loads(file.read_text()) for file in path.with_suffix("").glob("*.json")}
    assert sorted(report["name"] for report in cells_done.values()) == sorted(KINDS)
    for report in cells_done.values():
        assert sum(stage["steps"] for stage in report["stages"].values()) == 2, report["name"]
    assert main(["table", str(path)]) == 0
    capsys.readouterr()
    assert main(["list", str(path)]) == 0
    assert all(line.startswith("done") for line in capsys.readouterr().out.splitlines())
