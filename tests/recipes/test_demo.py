"""The demo's own machinery: stages that go on where they were, commands that fail, and the last screen."""

import json
import re
import sys
from pathlib import Path

import pytest
from helpers.places import ROOT

sys.path.insert(0, str(ROOT / "benchmarks" / "demo"))

import commands
import screen
from speech import Sentence
from stages import Stage, run_all


@pytest.fixture
def job(tmp_path):
    """Three stages of 100, 200 and 300 s by expectation that take half as long, by the clock that is passed along."""
    now = 0.0

    def stage(name: str, seconds: float) -> Stage:
        def work() -> None:
            nonlocal now
            now += seconds / 2
            (tmp_path / name).touch()

        return Stage(f"making {name}", seconds, [tmp_path / name], work)

    return [stage("a", 100), stage("b", 200), stage("c", 300)], lambda: now


def test_a_job_says_where_it_is_and_how_long_is_left(job, capsys):
    stages, clock = job
    run_all(stages, clock=clock)
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines[0] == "[1/3] making a ... about 10 min left"
    # 50 s in place of 100, and a minute as expected: (50 + 60) / (100 + 60) of the 500 s that are ahead.
    assert lines[1] == "[2/3] making b ... about 6 min left"
    # (150 + 60) / (300 + 60) of 300 s.
    assert lines[2] == "[3/3] making c ... about 3 min left"
    assert lines[3] == "Done in 5 min."


def test_a_job_goes_on_after_what_was_done(job, capsys, tmp_path):
    stages, clock = job
    (tmp_path / "b").write_text("from before")
    run_all(stages, clock=clock)
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines[0] == "[1/3] making a ... about 7 min left"  # b is not ahead
    assert "[2/3] making b: done before" in lines
    assert (tmp_path / "b").read_text() == "from before"
    run_all(stages, clock=clock)
    assert [line for line in capsys.readouterr().out.splitlines() if line] == [
        f"[{number}/3] making {name}: done before" for number, name in enumerate("abc", start=1)
    ]


def test_a_command_that_fails_ends_the_demo_with_its_exit_code(tmp_path, capfd):
    script = tmp_path / "script.py"
    script.write_text("import sys; print('what is wrong', file=sys.stderr); sys.exit(2)")
    with pytest.raises(commands.Failed) as failed:
        commands.run(["python", str(script)], save=tmp_path / "saved.json")
    assert failed.value.code == 2
    assert capfd.readouterr().err == "what is wrong\n"
    assert not (tmp_path / "saved.json").exists()


def test_the_last_line_of_a_command_is_saved(tmp_path, capfd):
    script = tmp_path / "script.py"
    script.write_text("print('some words'); print('{\"wer\": 1.5}')")
    commands.run(["python", str(script)], save=tmp_path / "saved.json")
    assert json.loads((tmp_path / "saved.json").read_text()) == {"wer": 1.5}
    assert capfd.readouterr().out == f"$ python {script} > {tmp_path / 'saved.json'}\n"


@pytest.mark.slow
def test_processes_find_each_other_and_one_that_fails_ends_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "PATIENCE", 0.5)
    script = tmp_path / "script.py"
    # Whichever fails, the other would go on for ten minutes.
    script.write_text(
        "import datetime, os, sys, time\n"
        "from torch import distributed\n"
        "distributed.init_process_group('gloo', timeout=datetime.timedelta(seconds=60))\n"
        f"open(f'{tmp_path}/{{distributed.get_rank()}}-of-{{distributed.get_world_size()}}', 'w').close()\n"
        "distributed.barrier()\n"
        "if sys.argv[1] == str(distributed.get_rank()): sys.exit(3)\n"
        "if sys.argv[1] != 'neither': time.sleep(600)\n"
        "distributed.destroy_process_group()\n"
    )
    commands.run(["python", str(script), "neither"], processes=2)
    assert sorted(path.name for path in tmp_path.glob("*-of-*")) == ["0-of-2", "1-of-2"]
    for rank in ("0", "1"):
        with pytest.raises(commands.Failed) as failed:
            commands.run(["python", str(script), rank], processes=2)
        assert failed.value.code == 3


def test_the_last_screen_has_five_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def wer(percent: float) -> dict:
        return {"percent": percent, "interval": [percent - 0.5, percent + 0.5], "reference": 1234}

    commands.HALF.mkdir(parents=True)
    removed = {"params": {"blocks": 0.499}, "macs": {"blocks": 0.501}}
    references = {
        "dense": {"wer": wer(2.75), "comparison": {"verdict": "worse", "points": 1.5, "interval": [0.5, 2.0]}},
        "control": {"wer": wer(3), "comparison": {"verdict": "undecided", "points": 1.25, "interval": [-0.5, 2.5]}},
    }
    evaluation = {"sets": {"heldout": {"wer": wer(4.25), "references": references}}}
    (commands.HALF / "prune.json").write_text(json.dumps({"removed": removed, "evaluation": evaluation}))
    ratios = {way: {"ratios": {str(commands.HALF): {"median": 0.5}}} for way in ("recording", "utterances")}
    commands.TIMED.write_text(json.dumps({"real_time": ratios}))
    for name, file in commands.SENTENCE.items():
        file.write_text(json.dumps({"transcripts": [{"text": f"what the {name} model wrote"}]}))
    screen.show(sets={"heldout": Path("heldout")}, sentence=Sentence(Path("a.flac"), "what was said"))
    *table, _, _, _, _, _ = shown = capsys.readouterr().out.splitlines()
    row = next(line for line in table if "heldout" in line)
    rates = ["1,234", "2.75 [2.2, 3.2]", "3.00 [2.5, 3.5]", "4.25 [3.8, 4.8]"]
    assert [cell.strip() for cell in re.split("  +", row.strip())[1:]] == rates
    last = shown[-5:]
    for line, parts in zip(
        last,
        [
            ["49.9%", "50.1%"],
            ["2.00 times"],
            ["2.75 %", "4.25 %", "worse, +1.50 points [+0.50, +2.00]", "undecided, +1.25 points [-0.50, +2.50]"],
            [str(commands.HALF)],
            ["what was said", "what the dense model wrote", "what the pruned model wrote"],
        ],
        strict=True,
    ):
        assert all(part in line for part in parts)


def rows_under(heading: str, text: str) -> list[list[str]]:
    """Cells of the rows of the table under a heading."""
    part = text.split(f"\n## {heading}")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_readme_says_of_the_demo_what_the_results_say():
    readme, results = ((ROOT / name).read_text() for name in ("README.md", "docs/results.md"))
    short, long = rows_under("Results", readme), rows_under("The demo", results)
    assert len(short) == 4
    for ours, theirs in zip(short, long, strict=True):
        assert ours[:2] == theirs[:2]
        assert ours[2:5] == [cell.split(" [")[0] for cell in theirs[2:5]]
        assert theirs[6].startswith(ours[5])
        dense, control, pruned = map(float, ours[2:5])
        beside = {theirs[5]: pruned - dense, theirs[6]: pruned - control}
        for said, points in beside.items():
            assert float(re.search(r": ([+-][\d.]+) points", said)[1]) == pytest.approx(points, abs=0.0101)
    said = re.search(r"It is (\S+ \[[^]]+\] times faster on a recording), after (\d+) steps, (\S+ minutes)", readme)
    faster, steps, minutes = said.groups()
    assert faster in results
    assert f"Recovery takes {minutes}" in results
    assert int(steps) == commands.STEPS
    assert f"with {steps} steps of recovery" in results
