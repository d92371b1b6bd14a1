"""How sure an error rate is, and whether one system may be called as good as another.

Intervals are percentile bootstraps over sentences (Bisani and Ney 2004): errors come in bursts within a
sentence, so sentences are resampled and not words. Sentences of one speaker still resemble each other, which
no interval here knows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jiwer
import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEWEST_SENTENCES = 20  # with fewer, a bootstrap's interval is far too narrow to judge by

Verdict = Literal["better", "not worse", "undecided"]


@dataclass(frozen=True, eq=False)
class Errors:
    """Edit-distance errors, one entry per sentence, all (sentences,) integers; in words or in characters."""

    substitutions: NDArray[np.int64]
    deletions: NDArray[np.int64]
    insertions: NDArray[np.int64]
    reference: NDArray[np.int64]
    """Length of the reference, in words or characters."""

    @property
    def per_sentence(self) -> NDArray[np.int64]:
        """All errors of each sentence, (sentences,)."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def total(self) -> int:
        return int(self.per_sentence.sum())

    @property
    def rate(self) -> float:
        """Errors per reference word or character, as a fraction; NaN without any reference."""
        words = int(self.reference.sum())
        return self.total / words if words else math.nan

    def interval(self, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
        """The two-sided 95 % interval of the rate, fractions.

        Where there is no error at all, every resample has none either; the upper end is then the exact
        binomial one (Clopper and Pearson 1934), so that 0 errors in 30 words doesn't read as certainty.
        """
        words = int(self.reference.sum())
        if words and not self.total:
            return 0.0, 1 - ((1 - CONFIDENCE) / 2) ** (1 / words)
        sums = resampled_sums(np.stack([self.per_sentence, self.reference], 1), resamples=resamples, seed=seed)
        return _two_sided(_ratio(sums[:, 0], sums[:, 1]))

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval()
        return {
            "percent": _percent(self.rate),
            "interval": [_percent(low), _percent(high)],
            "errors": self.total,
            "substitutions": int(self.substitutions.sum()),
            "deletions": int(self.deletions.sum()),
            "insertions": int(self.insertions.sum()),
            "reference": int(self.reference.sum()),
        }


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> Errors:
    """Align word by word, sentence by sentence; an empty reference is legal and its errors are insertions."""
    return _counted(jiwer.process_words(list(references), list(hypotheses)))


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> Errors:
    """Align character by character, spaces included."""
    return _counted(jiwer.process_characters(list(references), list(hypotheses)))


def _counted(aligned: jiwer.WordOutput | jiwer.CharacterOutput) -> Errors:
    counts = np.zeros((len(aligned.references), 3), dtype=np.int64)
    for row, chunks in zip(counts, aligned.alignments, strict=True):
        for chunk in chunks:
            if chunk.type == "substitute":
                row[0] += chunk.ref_end_idx - chunk.ref_start_idx
            elif chunk.type == "delete":
                row[1] += chunk.ref_end_idx - chunk.ref_start_idx
            elif chunk.type == "insert":
                row[2] += chunk.hyp_end_idx - chunk.hyp_start_idx
    lengths = np.array([len(reference) for reference in aligned.references], dtype=np.int64)
    substitutions, deletions, insertions = counts.T
    return Errors(substitutions, deletions, insertions, lengths)


@dataclass(frozen=True)
class PairedDifference:
    """A candidate's error rate less its baseline's, on the same sentences."""

    difference: float
    """Rate of the candidate less rate of the baseline, fraction of the reference."""
    interval: tuple[float, float]
    """Its two-sided 95 % interval."""
    relative: float
    """The difference over the baseline's rate; infinite or NaN where the baseline makes no error."""
    relative_upper: float
    """Upper end of the one-sided 95 % interval of `relative`; infinite if the baseline has too few errors."""
    margin_percent: float
    """How much worse, in percent of the baseline's rate, may still be called "not worse"."""
    sentences: int
    baseline_errors: int

    @property
    def verdict(self) -> Verdict:
        """One of three.

        `better`: the whole interval of the difference is below zero. `not worse` (than the margin, relative):
        the upper end of the one-sided interval is within the margin. Else `undecided`, as always with fewer
        than 20 sentences.
        """
        if self.sentences < FEWEST_SENTENCES:
            return "undecided"
        if self.interval[1] < 0:
            return "better"
        if self.relative_upper * 100 <= self.margin_percent:
            return "not worse"
        return "undecided"

    @property
    def sentence(self) -> str:
        """The verdict in words, with the figures that it rests on."""
        low, high = (f"{100 * end:+.2f}" for end in self.interval)
        figures = f"{100 * self.difference:+.2f} points [{low}, {high}]"
        if np.isfinite(self.relative):
            figures += f", {100 * self.relative:+.1f} % relative"
        if self.verdict == "better":
            return f"better: {figures}"
        if self.verdict == "not worse":
            margin = f"{self.margin_percent:g} % relative"
            return f"not worse than {margin}: {figures}, at most {self._supported} worse"
        if self.sentences < FEWEST_SENTENCES:
            return f"undecided: {figures}; {self.sentences} sentences are too few to judge by"
        if not self.baseline_errors:
            return f"undecided: {figures}; the baseline makes no error to compare with"
        certain = "; worse, by all of the interval" if self.interval[0] > 0 else ""
        if not np.isfinite(self.relative_upper):
            return f"undecided: {figures}{certain}; the baseline makes too few errors to compare with"
        return f"undecided: {figures}{certain}; the smallest margin that the data support is {self._supported}"

    @property
    def _supported(self) -> str:
        return f"{100 * max(self.relative_upper, 0.0):.1f} %"

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "points": _percent(self.difference),
            "interval": [_percent(end) for end in self.interval],
            "relative_percent": _percent(self.relative),
            "smallest_supported_margin_percent": _percent(max(self.relative_upper, 0.0)),
            "margin_percent": self.margin_percent,
        }


def paired_difference(
    candidate: Errors,
    baseline: Errors,
    *,
    margin_percent: float = 10.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare two systems on the same sentences, resampled together.

    A resample in which the baseline makes no error counts as infinitely worse, whatever the candidate does:
    too few errors can't support a relative claim.

    Raises:
        ValueError: the two were not measured against the same references.
    """
    if not np.array_equal(candidate.reference, baseline.reference):
        raise ValueError("The two systems were measured on different references.")
    return difference_of(
        candidate.per_sentence,
        baseline.per_sentence,
        baseline.reference,
        margin_percent=margin_percent,
        resamples=resamples,
        seed=seed,
    )


def difference_of(
    ours: NDArray[Any],
    theirs: NDArray[Any],
    reference: NDArray[Any],
    *,
    margin_percent: float = 10.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """The same from errors of each sentence, (sentences,) each: whole numbers, or means over several runs."""
    sums = resampled_sums(np.stack([ours, theirs, reference], 1), resamples=resamples, seed=seed)
    relative = np.where(sums[:, 1] > 0, _ratio(sums[:, 0] - sums[:, 1], sums[:, 1]), np.inf)
    return PairedDifference(
        difference=float((ours.sum() - theirs.sum()) / reference.sum()) if reference.sum() else math.nan,
        interval=_two_sided(_ratio(sums[:, 0] - sums[:, 1], sums[:, 2])),
        relative=float(_ratio(ours.sum() - theirs.sum(), theirs.sum())),
        # An order statistic: interpolating towards infinity would be NaN.
        relative_upper=float(np.quantile(relative, CONFIDENCE, method="higher")),
        margin_percent=margin_percent,
        sentences=len(reference),
        baseline_errors=int(theirs.sum()),
    )


def resampled_sums(values: NDArray[Any], *, resamples: int, seed: int) -> NDArray[Any]:
    """Draw sentences with replacement and add their values up.

    Args:
        values: (sentences, columns); the columns of a sentence stay together.

    Returns:
        (resamples, columns), a function of the seed.
    """
    if not len(values):
        raise ValueError("There is no sentence to resample.")
    return np.concatenate(list(_sums(values, resamples, np.random.default_rng(seed))))


def _sums(values: NDArray[Any], resamples: int, rng: np.random.Generator) -> Iterator[NDArray[Any]]:
    at_once = max(1, 2_000_000 // len(values))  # draws held in memory at a time
    for start in range(0, resamples, at_once):
        drawn = rng.integers(len(values), size=(min(at_once, resamples - start), len(values)))
        yield np.stack([column[drawn].sum(1) for column in values.T], 1)


def _ratio(numerator: Any, denominator: Any) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(numerator, dtype=float) / np.asarray(denominator, dtype=float)


def _two_sided(ratios: NDArray[np.float64]) -> tuple[float, float]:
    defined = ratios[np.isfinite(ratios)]  # a resample of empty references has no rate
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _percent(fraction: float) -> float | None:
    """A fraction for JSON, which knows neither NaN nor infinity."""
    return round(100 * fraction, 4) if np.isfinite(fraction) else None
