"""The comparison of methods: every entry runs on a tiny model, and the testbeds are what they say."""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers.mini_recogniser import mini_parakeet, mini_processor

from trimbre.evaluation.score import score
from trimbre.models.loading import load
from trimbre.pruning.methods.registry import method_called

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "methods"))

from cells import cells, read_testbed
from picture import best, draw
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


def row(name: str, share: float, rate: float) -> dict:
    wer = {"percent": rate, "interval": [0.9 * rate, 1.2 * rate], "rate": "wer"}
    return {"name": name, "share": share, "times_faster": 1 / (1 - 0.5 * share), "wer": {"voices": wer}}


def texts_of(path) -> set[str]:
    """The texts in an SVG."""
    return {text.text for text in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")}


def test_the_picture_names_the_default_and_the_best(tmp_path):
    """A method's place is the mean over panels and shares of its rank; the default is there wherever it stands."""
    rates = {"curvature": (9, 9), "a": (1, 4), "b": (2, 1), "c": (3, 3)}
    found = {
        "sets": ["voices"],
        "rows": [
            row("control", 0.0, 1),
            *(row(name, share, two[place]) for name, two in rates.items() for place, share in enumerate((0.5, 0.75))),
        ],
    }
    assert best({"one": found}, 3) == ["curvature", "b", "a"]
    draw({"one": found, "two": found}, tmp_path / "out.svg", named=["curvature", "b"])
    texts = texts_of(tmp_path / "out.svg")
    assert {"one", "two", "WER on voices, %", "control", "curvature", "b", "others"} <= texts
    assert not {"a", "c"} & texts


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
def test_without_training_models_are_judged_as_they_were_cut(testbed):
    path = testbed(only=["control", "curvature", "low rank"], steps=0, learn_steps=0)
    assert script().main(["run", str(path)]) == 0
    found = {file.stem: json.loads(file.read_text()) for file in path.with_suffix("").glob("*.json")}
    assert len(found) == 3
    dense, cut, factored = (found[f"{name}-10-0"] for name in ("control", "curvature", "low-rank"))
    assert all(stage["steps"] == 0 for one in found.values() for stage in one["stages"].values())
    assert dense["removed"]["params"]["blocks"] == 0
    assert min(one["removed"]["params"]["blocks"] for one in (cut, factored)) > 0.05
    model, processor = load("model")
    own = score(model=model, processor=processor, data=found["control-10-0"]["train"])
    assert dense["evaluation"]["sets"]["noise"]["wer"] == own.words.to_json()


@pytest.mark.slow
def test_entries_of_every_kind_run_and_the_table_compares_them(testbed, capsys):
    path, main = testbed(only=KINDS), script().main
    assert main(["run", str(path)]) == 0
    cells_done = {file.stem: json.loads(file.read_text()) for file in path.with_suffix("").glob("*.json")}
    assert sorted(report["name"] for report in cells_done.values()) == sorted(KINDS)
    for report in cells_done.values():
        assert sum(stage["steps"] for stage in report["stages"].values()) == 2, report["name"]
    assert main(["table", str(path)]) == 0
    assert main(["picture", str(path), "--out", "picture.svg", "--only", "curvature", "low rank"]) == 0
    drawn = texts_of("picture.svg")
    assert {"bed", "WER on noise, %", "control", "curvature", "low rank", "others"} <= drawn
    assert "DPHuBERT" not in drawn
    capsys.readouterr()
    assert main(["list", str(path)]) == 0
    assert all(line.startswith("done") for line in capsys.readouterr().out.splitlines())
