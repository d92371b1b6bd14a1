"""The rows of the table of claims: commands that the CLI takes, claims against intervals, and what is committed."""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from helpers.places import ROOT

sys.path.insert(0, str(ROOT / "benchmarks" / "demo"))
sys.path.insert(0, str(ROOT / "benchmarks" / "claims"))

import making
from commands import Failed
from rows import Claim, read_rows
from summary import summary, tables

from trimbre.cli import app
from trimbre.errors import UserError
from trimbre.evaluation.evaluate import ReferenceResult, SetResult, compare
from trimbre.evaluation.score import Evaluation

FOLDER = ROOT / "benchmarks" / "claims"
ROWS = read_rows(FOLDER / "rows.json")
BED = {"model": "dense", "train": ["a", "b"], "dev": "dev", "sets": {"near": "n", "far": "f"}, "timed": "near"}
HALF = {"title": "Mini, half", "testbed": "mini", "remove": 0.5, "steps": 3, "step_seconds": 8}
CLAIMS = [
    {"set": "near", "beside": "control", "percent": 10},
    {"set": "near", "beside": "other", "percent": 10},
    {"set": "far", "beside": "dense", "points": 5},
]


@pytest.fixture
def row(tmp_path, monkeypatch):
    """Writes a row of a testbed of two sets, and reads it."""
    monkeypatch.chdir(tmp_path)

    def read(**more):
        own = HALF | {"beside": {"other": "other"}, "claims": CLAIMS} | more
        Path("rows.json").write_text(json.dumps({"testbeds": {"mini": BED}, "rows": {"half": own}}))
        return read_rows(Path("rows.json"))["half"]

    return read


@pytest.mark.parametrize("name", ROWS)
def test_the_commands_of_every_row_are_taken_by_the_cli(name, tmp_path):
    one = ROWS[name]
    at = making.places(one, tmp_path)
    given = [
        making.prune_command(one, at["pruned"]),
        making.eval_command(one, at["pruned"]),
        making.export_command(one, one.model, at["dense-int8"]),
    ]
    for program, *arguments in given:
        assert program == "trimbre"
        app.parse_args(arguments, exit_on_error=False, print_error=False)
    judged = set(one.sets)
    assert one.timed in judged
    assert {claim.set for claim in one.claims} <= judged
    assert {claim.beside for claim in one.claims} <= {"dense", "control", *one.beside}
    assert one.steps or all(claim.beside != "control" for claim in one.claims)  # none is made then
    evaluated = given[0] if one.steps else given[1]
    assert all(any(place in word for word in evaluated) for place in one.sets.values())


@pytest.mark.parametrize(
    ("asked", "relative", "bound", "points", "upper", "holds"),
    [
        ({"percent": 10}, 4.0, 9.9, 0.1, 0.3, "yes"),
        ({"percent": 10}, 4.0, 10.1, 0.1, 0.3, "estimate"),
        ({"percent": 10}, 10.1, 15.0, 0.1, 0.3, "no"),
        ({"percent": 10}, None, None, 0.1, 0.3, "no"),  # the other model makes no error
        ({"points": 0.5}, 30.0, 40.0, 0.2, 0.4, "yes"),
        ({"points": 0.5}, 30.0, 40.0, 0.2, 0.6, "estimate"),
        ({"points": 0.5}, 1.0, 2.0, 0.6, 0.7, "no"),
    ],
)
def test_a_claim_holds_by_its_interval(asked, relative, bound, points, upper, holds):
    found = {
        "relative_percent": relative,
        "smallest_supported_margin_percent": bound,
        "points": points,
        "interval": [-1.0, upper],
    }
    assert Claim("near", "dense", **asked).judge(found) == holds


@pytest.fixture
def typed(monkeypatch):
    """The commands that were run, each of which leaves its product; `typed.fails` is the exit code of pruning."""

    class Typed(list):
        fails = 0

    commands = Typed()

    def run(command, *, processes=1, save=None, log=None):
        commands.append(list(command))
        out = save or Path(command[command.index("--out") + 1])
        if save is not None:
            out.write_text("{}")
        elif command[1] == "prune" and commands.fails > making.MISSED:
            out.with_name(f"{out.name}.run").mkdir(exist_ok=True)
        else:
            out.mkdir()
        if command[1] == "prune" and commands.fails:
            raise Failed(commands.fails)

    monkeypatch.setattr(making, "run", run)
    return commands


def test_a_row_goes_on_where_it_stopped_and_is_made_by_one_set_of_options(row, typed):
    runs, log = Path("runs"), Path("half.log")
    typed.fails = 130
    with pytest.raises(Failed):
        making.make(row(), runs, log)
    assert "--resume" not in typed[0]
    typed.fails = making.MISSED  # by a unit or two: the model is there
    making.make(row(), runs, log)
    assert typed[1] == [*typed[0], "--resume"]
    assert [command[1] for command in typed[2:]] == ["eval", "export", "export", typed[5][1], "eval"]
    assert typed[5][1].endswith("benchmarks/claims/exported.py")
    done = len(typed)
    making.make(row(title="by another name", claims=[]), runs, log)
    assert len(typed) == done
    assert set(json.loads(Path("runs/half/minutes.json").read_text())) == {
        *("pruned", "float32.json", "dense-int8", "pruned-int8", "int8.json", "beside-other.json")
    }
    with pytest.raises(UserError, match="runs/half holds a run by other options: remove it or rename the row"):
        making.make(row(steps=4), runs, log)


def judged(wrong: int, sentences: int = 40) -> Evaluation:
    """An evaluation in which so many of the sentences, each by a speaker, have one of four words wrong."""
    texts = [f"one two three {number}" for number in range(sentences)]
    said = [text.replace("two", "too") if number < wrong else text for number, text in enumerate(texts)]
    ids = [str(number) for number in range(sentences)]
    return Evaluation(ids, texts, said, "basic", 60.0, {}, speakers=ids)


def beside(ours: Evaluation, **others: Evaluation) -> dict:
    return SetResult(ours, {name: ReferenceResult(one, compare(ours, one)) for name, one in others.items()}).to_json()


def write(path: Path, found: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))


def timed(first: str, second: str) -> dict:
    spread = {"median": 0.5, "low": 0.4, "high": 0.8}
    one = {"threads": 1, "clips": 2, "factors": {first: spread, second: spread}}
    return {"utterances": one | {"ratios": {first: spread | {"median": 1.0}, second: spread}}}


@pytest.fixture
def made(row):
    """The products of a row, as its commands write them: 12 errors beside 10 of the control on one set."""

    def make(**more):
        one = row(**more)
        at = making.places(one, Path("runs"))
        sets = {
            "near": beside(judged(12), dense=judged(9), control=judged(10)),
            "far": beside(judged(2), dense=judged(2), control=judged(2)),
        }
        whole = {"blocks": 0.5, "model": 0.4}
        stage = {"steps": 3, "minutes": 1.5}
        stages = {"recover": stage, "control": stage | {"minutes": 2.5}} if one.steps else {}
        report = {
            **{"evaluation": {"sets": sets} if one.steps else None, "stages": stages, "audio_seconds": 1800.0},
            **{"command": "trimbre prune dense", "removed": {"params": whole, "macs": whole}, "missed": None},
            **{"processes": 2, "step_seconds": 8.0, "data": {"hours": 1.0}},
        }
        write(at["pruned"] / "prune.json", report)
        sizes = {"size": {"parameters": 60, "macs_per_second": 30.0}}
        sizes["reference_sizes"] = {"baseline": {"parameters": 100, "macs_per_second": 60.0}}
        plain = {"data": beside(judged(12), baseline=judged(9)), "far": beside(judged(3), baseline=judged(2))}
        write(at["float32"], {"sets": plain, "real_time": timed("dense", str(at["pruned"])), **sizes})
        if one.beside:
            rival = {"sets": {"data": beside(judged(12), baseline=judged(20))}}
            write(at["beside other"], rival | {"real_time": timed("other", str(at["pruned"]))})
        int8 = {"rates": {name: judged(wrong).units.to_json() for name, wrong in (("dense", 9), ("pruned", 13))}}
        int8 |= {"comparison": compare(judged(13), judged(9)).to_json(), "bytes": {"dense": 40, "pruned": 20}}
        write(at["int8"], int8 | {"real_time": timed("dense", "pruned")})
        write(at["minutes"], {"pruned": 6.0})
        write(Path("dense/train.json"), {"audio_seconds": 3600, "earlier": [{"audio_seconds": 7200}]})
        for place, size in (("dense", 400), ("other", 300), (at["pruned"], 200)):
            Path(place).mkdir(exist_ok=True)
            (Path(place) / "model.safetensors").write_bytes(bytes(size))
        return summary(one, Path("runs"))

    return make


def test_the_figures_of_a_row_are_those_of_its_commands(made):
    found = made()
    near = found["sets"]["near"]
    assert {name: one["percent"] for name, one in near["rates"].items()} == {
        **{"dense": 100 * 9 / 160, "control": 100 * 10 / 160, "pruned": 100 * 12 / 160},
        **{"other": 100 * 20 / 160},
    }
    assert near["beside"]["control"]["points"] == pytest.approx(100 * 2 / 160)
    assert (near["speakers"], near["beside"]["control"]["resampled"]) == (40, "speakers")
    assert [claim["holds"] for claim in found["claims"]] == ["no", "yes", "yes"]
    assert found["share_of_hours_taught"] == pytest.approx(0.5 / 3)
    assert found["minutes"] == {"recovery": 1.5, "control": 2.5, "commands": {"pruned": 6.0}}
    assert found["bytes"]["weights"] == {"dense": 400, "pruned": 200}
    faster = found["times"]["float32, PyTorch"]["utterances"]["times_faster"]
    assert faster == pytest.approx({"median": 1 / 0.5, "low": 1 / 0.8, "high": 1 / 0.4})
    assert set(found["times"]) == {"float32, PyTorch", "int8, ONNX Runtime", "float32, PyTorch, beside other"}
    written = json.dumps(found)
    assert "one two" not in written  # no texts of recordings
    assert len(written) < 10_000


def test_without_training_the_rates_are_those_of_the_evaluation(made):
    found = made(steps=0, beside={}, claims=[{"set": "far", "beside": "dense", "percent": 60}])
    assert {name: len(one["rates"]) for name, one in found["sets"].items()} == {"near": 2, "far": 2}
    assert found["sets"]["far"]["rates"]["pruned"]["errors"] == 3
    assert found["minutes"]["control"] is None
    assert [claim["holds"] for claim in found["claims"]] == ["estimate"]


def test_options_of_a_row_follow_those_of_its_testbed():
    assert ROWS["base-half"].options[:2] == ["--of", "encoder-blocks"]


def test_minutes_of_what_was_interrupted_add_up(tmp_path):
    write(tmp_path / "minutes.json", {"pruned": 6.0, "float32.json": 1.0})
    with pytest.raises(KeyboardInterrupt), making.counted(tmp_path / "minutes.json", "pruned"):
        raise KeyboardInterrupt
    found = json.loads((tmp_path / "minutes.json").read_text())
    assert found == {"pruned": pytest.approx(6, abs=0.5), "float32.json": 1.0}


@pytest.fixture
def script():
    """`python benchmarks/claims`, as a module."""
    spec = spec_from_file_location("benchmarks_claims", FOLDER / "__main__.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_a_verb_needs_is_asked_for_and_read_from_where_one_stands(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("elsewhere").mkdir()
    for verb, said in (("run", "run needs names beside it, of conformer-half"), ("data", "data needs --speech")):
        with pytest.raises(SystemExit):
            script.main([verb, "--root", "elsewhere"])
        assert said in capsys.readouterr().err
        monkeypatch.chdir(tmp_path)
    brought = []
    monkeypatch.setattr(script, "bring", brought.append)
    assert script.main(["data", "--speech", "speech", "--root", "elsewhere"]) == 0
    assert brought == [tmp_path / "speech"]


def test_the_tables_have_the_rows_that_are_done(script, made, capsys):
    write(Path("half.json"), made())
    assert script.main(["table", "--rows", "rows.json", "--root", "."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == list(tables([json.loads(Path("half.json").read_text())]))
    first, second = lines.index(""), len(lines)
    for part in (lines[:first], lines[first + 1 : second]):
        assert len({line.count("|") for line in part}) == 1
    assert "| Mini, half | near (160 words) | 5.62 [" in lines[2]
    assert lines[2].endswith("| at most +10 % beside control: no; at most +10 % beside other: yes |")
    assert "| 50.0%, 50.0% | 60.0%, 50.0% | 0.0 → 0.0; 0.0 → 0.0 | 2.00, 2.00 | 3 steps, 2 min |" in lines[-1]
    assert lines[-1].endswith("| 0.5 h, 16.7% of the teacher's |")
    write(Path("an4.json"), {"rows": [made() | {"title": "of several folds"}]})
    assert script.main(["table", "--rows", "rows.json", "--root", "."]) == 0
    assert [
        line.split(" | ")[0] for line in capsys.readouterr().out.splitlines() if "Mini" in line or "folds" in line
    ] == [*["| of several folds"] * 2, *["| Mini, half"] * 2, "| of several folds", "| Mini, half"]
    assert script.main(["list", "--rows", "rows.json", "--root", "."]) == 0
    assert capsys.readouterr().out == "done  half: Mini, half\n"
