"""Repetition loops: which texts are taken for one, and how much of a rate they are."""

import pytest

from trimbre.evaluation.loops import LONGEST_PERIOD, is_loop, turns
from trimbre.evaluation.score import Evaluation
from trimbre.report.terminal.evaluation import apart


@pytest.mark.parametrize(
    ("reference", "hypothesis", "loop"),
    [
        ("thank you", "thank you thank you thank you thank you", True),
        ("thank you", "thank you thank you thank you", False),
        ("no no no no", "no no no no", False),  # spoken so
        ("no no no no", "no no no no no", False),
        ("no no no no", " ".join(["no"] * 9), True),
        ("", "you you you you", True),
        ("so it goes", "so it goes and " + "on and " * 20, True),
        ("laughter", "ha" * 20, True),
        ("laughter", "hahaha", False),
        ("my number", "1" * 40, True),
        ("1" * 16, "1" * 16, False),
        ("", "", False),
        ("a", " ".join(map(str, range(200))), False),
    ],
)
def test_what_is_taken_for_a_loop(reference, hypothesis, loop):
    assert is_loop(reference, hypothesis) is loop


@pytest.mark.parametrize("period", [1, 2, 7, LONGEST_PERIOD])
def test_turns_are_counted_over_every_period(period):
    span = [str(number) for number in range(period)]
    assert turns(["x", *span * 5, "y"]) == 5
    assert turns([*span * 5, *span[:-1]]) == 5
    assert turns(span) == 1
    assert turns([]) == 0


def test_a_span_that_is_longer_is_none():
    assert turns([str(number) for number in range(LONGEST_PERIOD + 1)] * 5) == 1


def test_loops_are_found_by_characters_where_these_are_judged():
    assert is_loop("谢谢", "谢谢观看谢谢观看谢谢观看谢谢观看", characters=True)
    assert not is_loop("谢谢", "谢谢观看", characters=True)


def evaluated(hypotheses) -> Evaluation:
    references = ["press one two", "goodbye", ""]
    return Evaluation(["a", "b", "c"], references, hypotheses, "basic", 1.0, {})


def test_loops_and_words_on_silence_are_counted_apart_for_both_models():
    ours = evaluated(["press one " + "two " * 9, "good bye", "thank you"]).to_json()
    theirs = evaluated(["press one two", "bye", "thank " * 5]).to_json()
    assert ours["wer"]["errors"] == 8 + 2 + 2
    assert ours["loops"] == {"utterances": 1, "insertions": 8, "percent_of_others": 400.0, "ids": ["a"]}
    assert theirs["loops"] == {"utterances": 1, "insertions": 5, "percent_of_others": 25.0, "ids": ["c"]}
    assert (ours["empty_transcripts"], ours["hallucinated"], theirs["hallucinated"]) == (1, 2, 5)
    lines = list(apart(ours | {"references": {"baseline": theirs}}))
    assert lines == [
        "2 words recognised in 1 utterance with an empty transcript, 5 words by baseline",
        "1 utterance recognised as a repetition loop, 8 words inserted; 400.00 % WER without these",
        "1 utterance recognised as a repetition loop by baseline, 5 words inserted; 25.00 % WER without these",
    ]


def test_no_line_stands_for_nothing():
    assert not list(apart(Evaluation(["a"], ["b"], ["b"], "basic", 1.0, {}).to_json()))
