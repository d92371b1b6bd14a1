"""What an error rate is made of: the texts of every utterance as they were compared, on screen and in files."""

import json

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from trimbre.costs.size import Size
from trimbre.errors import OptionError
from trimbre.evaluation.evaluate import EvaluationReport, ReferenceResult, SetResult, compare
from trimbre.evaluation.hypotheses import refuse_hypotheses, write_hypotheses
from trimbre.evaluation.score import Evaluation
from trimbre.report.terminal.utterances import aligned, worst_utterances

SAID = {"a": "please hold the line", "b": "press one\tnow", "c": "thank you for calling", "d": ""}
OURS = {"a": "please fold line", "b": "press one now", "c": "thank you for falling", "d": "[uh]"}
THEIRS = {"a": "please hold the line", "b": "press two now", "c": "thank you for calling", "d": ""}
ERRORS = {"a": (2, 0), "b": (0, 1), "c": (1, 0), "d": (1, 0)}


def evaluated(texts) -> Evaluation:
    references = [one.replace("\t", " ") for one in SAID.values()]
    return Evaluation(list(SAID), references, list(texts.values()), "basic", 9.0, {})


def beside(ours: Evaluation, theirs: Evaluation) -> SetResult:
    return SetResult(ours, {"baseline": ReferenceResult(theirs, compare(ours, theirs))})


@pytest.fixture
def report() -> EvaluationReport:
    ours, theirs, size = evaluated(OURS), evaluated(THEIRS), Size(1, 1.0, 10.0)
    sets = {"data": beside(ours, theirs), "own": beside(theirs, theirs)}
    return EvaluationReport(sets, size, {"baseline": size}, "basic")


def test_every_utterance_has_its_texts_and_errors(report):
    rows = report.sets["data"].utterances()
    assert [row["id"] for row in rows] == list(SAID)
    assert {row["id"]: (row["errors"], row["baseline_errors"]) for row in rows} == ERRORS
    assert [row["hypothesis"] for row in rows] == list(OURS.values())
    assert [row["baseline_hypothesis"] for row in rows] == list(THEIRS.values())
    assert [row["words"] for row in rows] == [4, 3, 4, 0]
    found = report.to_json(utterances=True)["sets"]["data"]
    assert found["per_utterance"] == rows
    assert sum(row["errors"] for row in rows) == found["wer"]["errors"]
    assert sum(row["words"] for row in rows) == found["wer"]["reference"]
    assert "per_utterance" not in report.to_json()["sets"]["data"]


def test_a_file_holds_every_set_by_its_ending(report, tmp_path):
    write_hypotheses(report, tmp_path / "all.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row.pop("set"), row) for row in rows] == [
        (name, row) for name, one in report.sets.items() for row in one.utterances()
    ]
    write_hypotheses(report, tmp_path / "all.TSV")
    written = (tmp_path / "all.TSV").read_text(encoding="utf-8")
    heading, *lines = [line.split("\t") for line in written.splitlines()]
    assert heading[:6] == ["set", "id", "reference", "hypothesis", "errors", "words"]
    assert heading[6:] == ["baseline_hypothesis", "baseline_errors"]
    assert lines[0] == ["data", "a", SAID["a"], OURS["a"], "2", "4", THEIRS["a"], "0"]
    assert lines[4] == ["own", "a", SAID["a"], THEIRS["a"], "0", "4", THEIRS["a"], "0"]
    assert {len(line) for line in lines} == {8}
    assert len(lines) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.TSV", "all.jsonl"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("all.txt", r"end the name in \.jsonl"),
        ("all", r"end the name in \.jsonl"),
        ("there.tsv", "it already exists"),
        ("folder.tsv", "it is a folder"),
        ("file.tsv/all.tsv", "file.tsv is a file"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_recognised(name, said, tmp_path):
    for there in ("there.tsv", "file.tsv"):
        (tmp_path / there).write_text("mine")
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(OptionError, match=rf"^hypotheses=.*: .*{said}"):
        refuse_hypotheses(tmp_path / name)
    assert (tmp_path / "there.tsv").read_text() == "mine"
    refuse_hypotheses(tmp_path / "new" / "all.tsv")
    assert not (tmp_path / "new").exists()


def test_the_worst_are_shown_first_with_their_errors_marked(report):
    console = Console(width=80, record=True)
    console.print(*worst_utterances(report.sets, 2), sep="\n")
    shown = [line.rstrip() for line in console.export_text().splitlines()]
    assert shown[:2] == ["S substituted, D deleted, I inserted", "data: of 4 utterances the 2 with the most errors"]
    assert shown[3:8] == [
        "a: 2 errors in 4 words",
        "REF: please hold the line",
        "HYP: please fold *** line",
        "            S    D",
        "baseline: 0 errors",
    ]
    assert shown[9:13] == ["d: 1 error in 0 words", "REF: ****", "HYP: [uh]", "     I"]
    own = shown.index("own: of 4 utterances the 1 with the most errors")
    assert shown[own + 2 : own + 6] == [
        "b: 1 error in 3 words",
        "REF: press one now",
        "HYP: press two now",
        "           S",
    ]


TEXTS = st.lists(st.text("ab日本é", min_size=1, max_size=60), max_size=30).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_an_alignment_fits_its_width_and_loses_nothing(reference, hypothesis):
    lines = list(aligned(reference, hypothesis, width=40))
    assert max(map(cell_len, lines)) <= 40
    for name, text in (("REF: ", reference), ("HYP: ", hypothesis)):
        shown = "".join(line[5:] for line in lines if line.startswith(name))
        assert shown.replace(" ", "").replace("*", "") == text.replace(" ", "")
    marks = "".join(line for line in lines if not line.startswith(("REF: ", "HYP: "))).replace(" ", "")
    counts = jiwer.process_words(reference, hypothesis)
    assert len(marks) >= counts.substitutions + counts.deletions + counts.insertions
