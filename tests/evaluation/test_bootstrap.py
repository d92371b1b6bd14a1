"""Error counts and intervals, against hand-made alignments and systems with known error rates."""

from dataclasses import replace

import numpy as np
import pytest

from trimbre.evaluation.bootstrap import ErrorCounts, PairedDifference, character_errors, paired_difference, word_errors


def errors(counts, words=10) -> ErrorCounts:
    """Sentences of `words` words with so many substitutions each."""
    counts = np.asarray(counts)
    none = np.zeros_like(counts)
    return ErrorCounts(counts, none, none, np.full_like(counts, words))


def test_counts_by_hand():
    found = word_errors(["one two three", "four", "", "five six"], ["one three", "for", "oh", "five six"])
    assert found.substitutions.tolist() == [0, 1, 0, 0]
    assert found.deletions.tolist() == [1, 0, 0, 0]
    assert found.insertions.tolist() == [0, 0, 1, 0]
    assert found.reference.tolist() == [3, 1, 0, 2]
    assert found.rate == 3 / 6


def test_characters_count_spaces():
    found = character_errors(["ab cd"], ["abcx"])
    assert (found.deletions.sum(), found.substitutions.sum(), found.reference.sum()) == (1, 1, 5)


def test_no_reference_has_no_rate():
    found = word_errors(["", ""], ["", "oh"])
    assert np.isnan(found.rate)
    assert found.to_json()["percent"] is None
    assert found.to_json()["interval"] == [None, None]
    assert found.to_json()["insertions"] == 1


def test_no_errors_is_no_certainty():
    low, high = errors([0] * 3).interval()
    assert low == 0
    assert (1 - high) ** 30 == pytest.approx(0.025)  # 30 words right in a row would still happen one time in 40


def test_interval_has_its_nominal_coverage():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = errors(rng.binomial(8, 0.1, size=100), words=8).interval(resamples=400, seed=trial)
        covered += low <= 0.1 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_interval_is_wider_when_errors_come_in_bursts():
    even, bursts = errors([1] * 40 + [0] * 60), errors([10] * 4 + [0] * 96)
    assert even.rate == bursts.rate
    assert np.diff(bursts.interval()) > 2 * np.diff(even.interval())


def test_interval_is_a_function_of_the_seed():
    found = errors(np.random.default_rng(0).integers(0, 50, size=200), words=97)
    assert found.interval(seed=3) == found.interval(seed=3) != found.interval(seed=4)


def test_identical_systems_differ_by_nothing_and_neither_is_better():
    found = errors([1, 0, 2, 0] * 25)
    comparison = paired_difference(found, found)
    assert (comparison.difference, comparison.interval, comparison.relative) == (0, (0, 0), 0)
    assert comparison.verdict == "not worse"
    assert comparison.relative_upper == 0


def test_pairing_removes_what_both_systems_share():
    rng = np.random.default_rng(0)
    shared = rng.binomial(10, 0.3, size=300)
    better = np.maximum(shared - (rng.random(300) < 0.1), 0)
    comparison = paired_difference(errors(better), errors(shared))
    assert comparison.verdict == "better"
    low, high = errors(shared).interval()
    assert np.diff(comparison.interval) < 0.3 * (high - low)


def test_a_wide_interval_is_undecided():
    ours, theirs = errors([5, 0, 0, 0, 0] * 6), errors([0, 5, 0, 0, 0] * 6)
    comparison = paired_difference(ours, theirs)
    assert comparison.difference == 0
    assert comparison.verdict == "undecided"
    assert comparison.relative_upper > 0.5


def test_every_sentence_alike_gives_the_verdict_of_the_totals():
    # 21 errors against 20 in each sentence: exactly 5 % worse in every resample.
    ours, theirs = errors([21] * 30, words=100), errors([20] * 30, words=100)
    for margin, verdict in [(4.9, "worse"), (5.1, "not worse")]:
        comparison = paired_difference(ours, theirs, margin_percent=margin)
        assert comparison.verdict == verdict
        assert comparison.relative_upper == pytest.approx(0.05)
        assert comparison.interval == pytest.approx((0.01, 0.01))
        assert "+1.00 points [+1.00, +1.00] (+5 % relative" in comparison.sentence  # whatever the verdict


@pytest.mark.parametrize(
    ("low", "high", "upper", "sentences", "verdict"),
    [
        (0.001, 0.002, 0.20, 20, "worse"),
        (0.001, 0.002, 0.10, 20, "not worse"),  # surely higher, and surely by less than the margin
        (0.0, 0.002, 0.20, 20, "undecided"),
        (-0.001, 0.002, 0.20, 20, "undecided"),
        (-0.002, 0.002, 0.10, 20, "not worse"),
        (-0.002, 0.0, 0.11, 20, "undecided"),
        (-0.002, -0.001, 0.20, 20, "better"),
        (0.001, 0.002, np.inf, 20, "worse"),
        (0.001, 0.002, 0.20, 19, "undecided"),
        (-0.002, -0.001, -0.20, 19, "undecided"),
    ],
)
def test_the_verdict_is_one_of_four(low, high, upper, sentences, verdict):
    found = PairedDifference((low + high) / 2, (low, high), 0.1, upper, 10.0, sentences, 5)
    assert found.verdict == found.to_json()["verdict"] == verdict
    assert found.sentence.startswith(verdict)


def test_a_significant_difference_has_its_relative_size():
    found = PairedDifference(0.0130, (0.0101, 0.0161), 0.432, 0.537, 10.0, 200, 60)
    assert found.sentence == "worse: +1.30 points [+1.01, +1.61] (+43 % relative)"
    within = PairedDifference(0.0030, (0.0011, 0.0051), 0.05, 0.078, 10.0, 200, 60)
    assert within.sentence == "not worse than 10 %: +0.30 points [+0.11, +0.51] (+5 % relative, at most +8 %)"


def test_two_errors_more_in_every_sentence_are_worse_by_the_closed_form():
    """Every resample differs by 2 of 10 words exactly."""
    theirs = np.random.default_rng(1).integers(0, 5, size=100)
    found = paired_difference(errors(theirs + 2), errors(theirs))
    assert found.verdict == "worse"
    assert found.interval == pytest.approx((0.2, 0.2))
    assert paired_difference(errors(theirs), errors(theirs + 2)).verdict == "better"


def test_the_one_sided_end_is_the_normal_one_on_many_sentences():
    rng = np.random.default_rng(0)
    theirs = errors(np.full(4000, 2))
    shift = rng.integers(-1, 2, size=4000)
    comparison = paired_difference(errors(2 + shift), theirs)
    expected = shift.mean() / 2 + 1.645 * shift.std() / np.sqrt(4000) / 2
    assert comparison.relative_upper == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("ours", [0, 1])
def test_a_flawless_baseline_supports_no_relative_claim(ours):
    comparison = paired_difference(errors([ours] * 40), errors([0] * 40))
    assert comparison.verdict == ("worse" if ours else "undecided")
    assert ("too few errors to compare with" in comparison.sentence) == (not ours)
    assert comparison.to_json()["smallest_supported_margin_percent"] is None


def test_one_error_in_the_baseline_is_too_few():
    found = errors([1] + [0] * 99)
    assert paired_difference(found, found).verdict == "undecided"


def test_a_handful_of_sentences_is_undecided_even_when_all_agree():
    comparison = paired_difference(errors([0] * 5), errors([3] * 5))
    assert comparison.verdict == "undecided"
    assert "too few" in comparison.sentence


def test_other_references_are_refused():
    with pytest.raises(ValueError, match="different references"):
        paired_difference(errors([1] * 30), errors([1] * 30, words=9))


def test_other_speakers_are_refused():
    spoken = replace(errors([1] * 30), speakers=list(map(str, range(30))))
    with pytest.raises(ValueError, match="different speakers"):
        paired_difference(spoken, errors([1] * 30))
    assert paired_difference(spoken, spoken).speakers == 30
