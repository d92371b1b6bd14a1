"""Intervals over whole speakers: closed forms, coverage, and the sets in which sentences are resampled instead."""

import numpy as np
import pytest

from trimbre.evaluation.bootstrap import bootstrap_difference, bootstrap_interval
from trimbre.evaluation.resampling import FEWEST_SPEAKERS, resampled, resampled_sums


def named(*sentences: int) -> list[str]:
    """Speakers with so many sentences each, in turn."""
    return [f"speaker {number}" for number, count in enumerate(sentences) for _ in range(count)]


@pytest.fixture(scope="module")
def spoken() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of two recognisers and words of 60 sentences."""
    rng = np.random.default_rng(0)
    words = rng.integers(1, 12, size=60)
    return rng.binomial(words, 0.2), rng.binomial(words, 0.2), words


def test_a_speaker_for_every_sentence_is_the_bootstrap_over_sentences(spoken):
    ours, theirs, words = spoken
    speakers = named(*[1] * 60)
    assert bootstrap_interval(ours, words, speakers=speakers) == bootstrap_interval(ours, words)
    found, plain = (bootstrap_difference(ours, theirs, words, speakers=one) for one in (speakers, ()))
    assert (found.interval, found.relative_upper) == (plain.interval, plain.relative_upper)
    assert (found.speakers, plain.speakers) == (60, None)


def test_a_speaker_counts_as_one_sentence_of_all_their_words(spoken):
    """Sentences in any order: those of a speaker joined into one give the same draws."""
    ours, theirs, words = spoken
    speakers = named(*[2] * 30)
    joined = [one.reshape(30, 2).sum(1) for one in spoken]
    assert bootstrap_interval(ours, words, speakers=speakers) == bootstrap_interval(joined[0], joined[2])
    found = bootstrap_difference(ours, theirs, words, speakers=speakers)
    alone = bootstrap_difference(*joined)
    assert (found.interval, found.relative_upper) == (alone.interval, alone.relative_upper)
    turns = np.argsort(np.arange(60) % 2, kind="stable")  # everyone's first sentence, then everyone's second
    again = [one[turns] for one in (ours, theirs, words)]
    assert bootstrap_difference(*again, speakers=[speakers[turn] for turn in turns]).interval == found.interval


def test_saying_the_same_ten_times_makes_no_interval_narrower():
    once = np.random.default_rng(1).binomial(10, 0.2, size=25)
    errors, words = np.repeat(once, 10), np.full(250, 10)
    over = bootstrap_interval(errors, words, speakers=named(*[10] * 25))
    assert over == pytest.approx(bootstrap_interval(once, np.full(25, 10)))
    # Sums of ten equal sentences have ten times the variance of sums of ten that are drawn apart.
    assert np.diff(over) == pytest.approx(np.sqrt(10) * np.diff(bootstrap_interval(errors, words)), rel=0.1)


def test_means_over_runs_may_be_fractions(spoken):
    ours, theirs, words = spoken
    speakers = named(*[2] * 30)
    halves = bootstrap_difference(ours / 2, theirs / 2, words, speakers=speakers)
    whole = bootstrap_difference(ours, theirs, words, speakers=speakers)
    assert np.array(halves.interval) * 2 == pytest.approx(whole.interval)


@pytest.mark.parametrize(
    ("speakers", "kind"),
    [
        (named(*[3] * 20), "speakers"),
        (named(*[3] * 18, 6), "sentences"),  # 19 of them
        ([*named(*[3] * 19), None, "a", "b"], "sentences"),
        ([None] * 60, "sentences"),
        ((), "sentences"),
    ],
)
def test_few_or_unknown_speakers_leave_sentences(spoken, speakers, kind):
    ours, theirs, words = spoken
    assert FEWEST_SPEAKERS == 20
    assert resampled(speakers) == kind
    over = bootstrap_interval(ours, words, speakers=speakers)
    assert (over == bootstrap_interval(ours, words)) == (kind == "sentences")
    assert bootstrap_difference(ours, theirs, words, speakers=speakers).to_json()["resampled"] == kind


def test_one_speaker_for_each_sentence_is_asked_for():
    with pytest.raises(ValueError, match="3 speakers for 2 sentences"):
        resampled_sums(np.ones((2, 1)), speakers=["a", "b", "c"])


def covered(speakers: int, trials: int = 300) -> tuple[float, float]:
    """How often intervals over speakers, then over sentences, hold the rate of 10 %.

    Each speaker has a rate of their own, exponential around it, and ten sentences of ten words.
    """
    rng = np.random.default_rng(speakers)
    found = np.zeros(2)
    for seed in range(trials):
        rates = rng.exponential(0.1, size=speakers).clip(0, 1)
        errors, words = rng.binomial(10, np.repeat(rates, 10)), np.full(10 * speakers, 10)
        blocks = errors.reshape(speakers, 10).sum(1), np.full(speakers, 100)
        for kind, values in enumerate((blocks, (errors, words))):
            low, high = bootstrap_interval(*values, resamples=400, seed=seed)
            found[kind] += low <= 0.1 <= high
    return tuple(found / trials)


def test_intervals_over_enough_speakers_hold_the_rate_and_those_over_sentences_do_not():
    over, sentences = covered(FEWEST_SPEAKERS)
    assert 0.86 <= over <= 0.96
    assert sentences < 0.65
    assert covered(5)[0] < 0.84  # the reason for the threshold
