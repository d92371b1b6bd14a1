"""Runs side by side: means over seeds, paired differences, and runs that cannot be compared."""

import json
import re

import numpy as np
import pytest
from rich.console import Console

from trimbre.errors import UserError
from trimbre.evaluation.bootstrap import word_errors
from trimbre.evaluation.compare_runs import CONTROL, Comparison, Run
from trimbre.evaluation.score import Evaluation
from trimbre.report.comparison import write_comparison
from trimbre.report.markdown.comparison import comparison_markdown
from trimbre.report.terminal.comparison import comparison, comparison_table

TARGET = {"budget": "both", "of": "blocks"}
SENTENCES = [f"one two three {number}" for number in range(60)]


def evaluated(wrong, sentences=SENTENCES, speakers=()):
    """An evaluation in which the first `wrong` sentences have one error each."""
    texts = [text.replace("two", "too") if number < wrong else text for number, text in enumerate(sentences)]
    ids = [f"{number:03d}" for number in range(len(sentences))]
    return Evaluation(ids, sentences, texts, "basic", 60.0, {}, speakers=speakers).to_json()


def report(name, wrong, *, share=0.5, seed=0, sets=None, faster=1.5, options=None, rtf=None, unpruned=None):
    return {
        "name": name,
        "options": {"remove": share, "rtf": rtf, "budget": "both", "of": "blocks"}
        | {"seed": seed, "method": "l0"}
        | (options or {}),
        "latency": {"asked": rtf, "unpruned": unpruned},
        "removed": {"params": {"blocks": share}, "macs": {"blocks": share}},
        "stages": {
            "learn": {"steps": 3, "minutes": 1.0},
            "recover": {"steps": 4, "minutes": 2.0},
            "control": {"steps": 7, "minutes": 9.0},
        },
        "times_faster": {"median": faster, "low": faster, "high": faster},
        "evaluation": {"sets": sets or {"dev": evaluated(wrong), "other": evaluated(2 * wrong)}},
    }


@pytest.fixture
def write_run(tmp_path):
    def write_one(*given, **more):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps(report(*given, **more)))
        return Run.read(str(path))

    return write_one


def test_a_run_has_the_interval_that_its_evaluation_has(write_run):
    for wrong in (0, 7):
        (entry,) = Comparison.of([write_run(f"ours {wrong}", wrong)]).entries
        texts = [text.replace("two", "too") if number < wrong else text for number, text in enumerate(SENTENCES)]
        assert entry.interval("dev") == pytest.approx(word_errors(SENTENCES, texts).interval())
        assert entry.interval("dev")[1] > 0


def test_intervals_are_over_the_speakers_that_a_report_states(write_run):
    """One of 20 speakers says the first three sentences, another the next three."""
    speakers = [f"{number // 3}" for number in range(60)]
    stated, older = ({"dev": evaluated(6, speakers=who)} for who in (speakers, ()))
    runs = [write_run("ours", 6, sets=stated), write_run("theirs", 6, sets=older)]
    for order in (runs, runs[::-1]):  # the sentences are the same, and so are their speakers
        found = Comparison.of(order)
        for row in found.to_json()["rows"]:
            assert (row["wer"]["dev"]["resampled"], row["wer"]["dev"]["speakers"]) == ("speakers", 20)
            assert row["wer"]["dev"]["interval"] == pytest.approx(stated["dev"]["wer"]["interval"], abs=1e-4)
            assert row["against"]["best_other"]["resampled"] == "speakers"
        console = Console(width=80, record=True)
        console.print(*comparison(found.to_json()))
        shown = " ".join(console.export_text().split())
        assert "95 % intervals over speakers, normalize" in shown
        assert "intervals over speakers: dev (20)" in shown
        assert "| dev (240 words by 20 speakers, normalised `basic`) |" in comparison_markdown(found.to_json())
    over = stated["dev"]["wer"]["interval"]
    assert np.diff(over) > np.diff(older["dev"]["wer"]["interval"])
    assert "95 % intervals over sentences" in str(comparison_table(Comparison.of(runs[1:]).to_json()).title)
    other = write_run("other", 6, sets={"dev": evaluated(6, speakers=[*speakers[1:], "x"])})
    said = f"{runs[0].place} and {other.place} were evaluated with different speakers of dev: evaluate both again"
    with pytest.raises(UserError, match=re.escape(said)):
        Comparison.of([*runs, other])


def test_not_worse_is_said_with_its_margin(write_run):
    runs = [write_run("ours", 40), write_run("theirs", 40)]
    found = Comparison.of(runs).to_json()
    assert "not worse than 5 %" in comparison_markdown(found)


def test_seeds_of_a_method_are_averaged_and_compared_sentence_by_sentence(write_run):
    runs = [write_run("ours", 4, seed=0), write_run("ours", 8, seed=1), write_run("theirs", 30), write_run(CONTROL, 2)]
    found = Comparison.of(runs)
    assert [entry.name for entry in found.entries] == [CONTROL, "ours", "theirs"]
    _, ours, theirs = found.entries
    assert ours.rate("dev") == pytest.approx(6 / 240)
    assert ours.range("dev") == pytest.approx((4 / 240, 8 / 240))
    low, high = ours.interval("dev")
    assert 0 < low < 6 / 240 < high
    row = found.to_json()["rows"][1]
    assert row["against"]["control"]["points"] == pytest.approx(100 * 4 / 240, abs=1e-3)
    assert row["against"]["best_other"]["name"] == "theirs"
    assert row["against"]["best_other"]["verdict"] == "better"
    assert (row["steps"], row["minutes"]) == (7, 3.0)  # the control's own steps are another run's
    assert found.difference(theirs, ours.errors("dev")).difference == pytest.approx(24 / 240)
    assert np.array_equal(ours.words("dev"), np.full(60, 4.0))


def test_two_shares_make_two_rows_and_only_like_is_compared(write_run):
    found = Comparison.of([write_run("ours", 4), write_run("ours", 20, share=0.75), write_run("theirs", 9)])
    rows = {(row["name"], row["share"]): row for row in found.to_json()["rows"]}
    assert rows["ours", 0.5]["against"]["best_other"]["name"] == "theirs"
    assert "best_other" not in rows["ours", 0.75]["against"]
    assert all("dense" not in row["against"] for row in rows.values())


def test_runs_that_differ_in_more_than_their_seed_are_not_averaged(write_run):
    first = write_run("ours", 4, options={"recovery": {"refit": True}})
    with pytest.raises(UserError, match=r"share name and target, but not recovery.refit: call it NAME="):
        Comparison.of([first, write_run("ours", 5, seed=1, options={"recovery": {"refit": False}})])
    later = write_run("ours", 5, seed=1, options={"recovery": {"refit": True, "made_later": 1}})
    (entry,) = Comparison.of([first, later]).entries
    assert len(entry.runs) == 2


def test_a_real_time_factor_is_shown_as_its_share(write_run):
    runs = [write_run("ours", 4), write_run("ours", 9, rtf=0.01, unpruned=0.04)]
    runs.append(write_run("ours", 9, seed=1, rtf=0.01, unpruned=0.05))
    shares = {len(entry.runs): entry.share for entry in Comparison.of(runs).entries}
    assert shares == {1: 0.5, 2: pytest.approx(0.775)}


def test_without_a_control_runs_are_compared_with_their_own_references(write_run):
    references = {"dense": evaluated(4), "control": evaluated(2)}
    for left_out, points in ((None, {"dense": 6, "control": 8}), ("control", {"dense": 6})):
        kept = {name: one for name, one in references.items() if name != left_out}
        sets = {"dev": evaluated(10) | {"references": kept}}
        found = Comparison.of([write_run("ours", 0, sets=sets), write_run("ours", 0, seed=1, sets=sets)])
        row = found.to_json()["rows"][0]
        found_points = {name: one["points"] for name, one in row["against"].items()}
        assert found_points == pytest.approx({name: 100 * more / 240 for name, more in points.items()}, abs=1e-3)


def test_a_difference_above_zero_is_worse(write_run):
    found = Comparison.of([write_run("ours", 40), write_run(CONTROL, 2)])
    row = found.to_json()["rows"][1]["against"]["control"]
    assert row["verdict"] == "worse"
    assert "worse: +15.83 [" in comparison_markdown(found.to_json())


def test_the_table_is_written_whole_with_a_picture(write_run, tmp_path):
    found = Comparison.of([write_run("ours", 4), write_run("theirs", 9), write_run(CONTROL, 2)])
    out = tmp_path / "compared"
    write_comparison(found, out)
    write_comparison(found, out)  # a comparison may be made anew
    text = (out / "comparison.md").read_text()
    assert text == comparison_markdown(found.to_json())
    assert "| ours, 50% | 1 | 50.0%, 50.0% | 1.50 | 1.67 [" in text
    assert "ours" in (out / "comparison.svg").read_text()
    assert json.loads((out / "comparison.json").read_text())["rows"][0]["name"] == CONTROL
    assert comparison_table(found.to_json()).row_count == 3
    console = Console(width=80, record=True)
    console.print(*comparison(found.to_json()))
    assert max(map(len, console.export_text().splitlines())) <= 80
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/own.txt").write_text("a year's work")
    with pytest.raises(UserError, match=r"mine.: it already exists"):
        write_comparison(found, tmp_path / "mine")


def test_the_normaliser_is_named_and_is_that_of_all(write_run):
    ours = write_run("ours", 4)
    found = Comparison.of([ours]).to_json()
    assert found["normalize"] == "basic"
    assert "normalize=basic" in str(comparison_table(found).title)
    assert "normalised `basic`" in comparison_markdown(found)
    theirs = write_run("theirs", 4, sets={name: evaluated(4) | {"normalize": "open-asr"} for name in ("dev", "other")})
    with pytest.raises(UserError, match=r"was evaluated with normalize=open-asr, .* with basic: compare runs with the"):
        Comparison.of([ours, theirs])


def test_errors_in_characters_are_not_compared_with_errors_in_words(write_run):
    """As of an evaluation whose language was stated and one whose was not."""
    texts = ["iphone"] * 20
    runs = []
    for name, language in (("ours", None), ("theirs", "zh")):
        found = Evaluation(list(map(str, range(20))), texts, texts, "basic", 60.0, {}, languages=[language] * 20)
        runs.append(write_run(name, 4, sets={"dev": found.to_json()}))
    with pytest.raises(UserError, match=r"were evaluated on dev in different units, .*: evaluate both again, with one"):
        Comparison.of(runs)


def test_what_cannot_be_compared_is_named(write_run, tmp_path):
    ours = write_run("ours", 4)
    with pytest.raises(UserError, match="different sentences of dev"):
        Comparison.of(
            [ours, write_run("theirs", 4, sets={"dev": evaluated(4, SENTENCES[::-1]), "other": evaluated(8)})]
        )
    with pytest.raises(UserError, match=r"was evaluated on dev, .* on dev, other"):
        Comparison.of([ours, write_run("theirs", 4, sets={"dev": evaluated(4)})])
    with pytest.raises(UserError, match="share name, target and seed"):
        Comparison.of([ours, write_run("ours", 5)])
    renamed = Run.read(f"longer={write_run('ours', 5).place}")
    assert [entry.name for entry in Comparison.of([ours, renamed]).entries] == ["ours", "longer"]
    with pytest.raises(UserError, match="no run given"):
        Comparison.of([])
    with pytest.raises(UserError, match="no run at nowhere"):
        Run.read("nowhere")
    (tmp_path / "odd.json").write_text('{"name": "x", "evaluation": null}')
    with pytest.raises(UserError, match=r"odd\.json holds no evaluation"):
        Run.read(str(tmp_path / "odd.json"))
    old = evaluated(3)
    del old["sentences"]
    with pytest.raises(UserError, match="evaluate the model again"):
        write_run("theirs", 4, sets={"dev": old})
    for field, side in (("errors", "ours"), ("speakers", "ours"), ("errors", "dense")):
        cut_off = evaluated(3, speakers=SENTENCES) | {"references": {"dense": evaluated(3)}}
        figures = (cut_off if side == "ours" else cut_off["references"][side])["sentences"]
        figures[field] = figures[field].rpartition(" ")[0]
        with pytest.raises(
            UserError, match="no report of a whole run, its figures of dev are not of as many sentences"
        ):
            write_run("theirs", 4, sets={"dev": cut_off})


def test_an_evaluation_notes_the_errors_of_every_sentence():
    found = evaluated(5)["sentences"]
    assert sum(map(int, found["errors"].split())) == evaluated(5)["wer"]["errors"] == 5
    assert found["words"].split() == ["4"] * 60
    assert found["sha256"] == evaluated(9)["sentences"]["sha256"] != evaluated(5, SENTENCES[1:])["sentences"]["sha256"]
    assert word_errors(SENTENCES, SENTENCES).total == 0
