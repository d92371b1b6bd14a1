"""Confidence intervals of error rates, and the verdict of a paired comparison of two recognisers.

Intervals are percentile bootstraps over whole speakers or over sentences (`trimbre.evaluation.resampling`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jiwer
import kaldialign
import numpy as np
from numpy.typing import NDArray

from trimbre.evaluation.resampling import RESAMPLES, Speakers, resampled, resampled_sums, speakers_in

CONFIDENCE = 0.95
FEWEST_SENTENCES = 20  # with fewer, a bootstrap interval is far too narrow to judge by

KALDIALIGN = ("sub", "del", "ins", "ref_len")
"""What it calls the fields of `ErrorCounts`."""

Verdict = Literal["better", "not worse", "worse", "undecided"]


@dataclass(frozen=True, eq=False)
class ErrorCounts:
    """Edit-distance errors of each sentence, all (sentences,) integers; in words or in characters."""

    substitutions: NDArray[np.int64]
    deletions: NDArray[np.int64]
    insertions: NDArray[np.int64]
    reference: NDArray[np.int64]
    """Length of the reference, in words or characters."""
    speakers: Speakers = ()
    """Who spoke each sentence, which decides what intervals resample."""

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
        """The two-sided 95 % interval of the rate, as fractions."""
        how: dict[str, Any] = {"speakers": self.speakers, "resamples": resamples, "seed": seed}
        return bootstrap_interval(self.per_sentence, self.reference, **how)

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval()
        return {
            "percent": _percent(self.rate),
            "interval": [_percent(low), _percent(high)],
            "resampled": resampled(self.speakers),
            "errors": self.total,
            "substitutions": int(self.substitutions.sum()),
            "deletions": int(self.deletions.sum()),
            "insertions": int(self.insertions.sum()),
            "reference": int(self.reference.sum()),
        }


def word_errors(references: Sequence[str], hypotheses: Sequence[str], *, merge_compounds: bool = False) -> ErrorCounts:
    """Align word by word, sentence by sentence; an empty reference is legal and its errors are insertions.

    Args:
        merge_compounds: words next to each other that joined are one of the other side are no error, as the Open ASR
            Leaderboard counts: `white paper` and `whitepaper`.
    """
    if merge_compounds:
        pairs = zip(references, hypotheses, strict=True)
        found = [kaldialign.edit_distance(ours.split(), theirs.split(), merge_compounds=True) for ours, theirs in pairs]
        counts = (np.array([one[key] for one in found], dtype=np.int64) for key in KALDIALIGN)
        substitutions, deletions, insertions, reference = counts
        return ErrorCounts(substitutions, deletions, insertions, reference)
    return _counted(jiwer.process_words(list(references), list(hypotheses)))


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Align character by character, spaces included."""
    return _counted(jiwer.process_characters(list(references), list(hypotheses)))


def _counted(aligned: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
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
    return ErrorCounts(substitutions, deletions, insertions, lengths)


@dataclass(frozen=True)
class PairedDifference:
    """Difference between the error rates of a candidate and of a baseline on the same sentences, with a verdict."""

    difference: float
    """Rate of the candidate minus rate of the baseline, as a fraction of the reference."""
    interval: tuple[float, float]
    """Its two-sided 95 % interval."""
    relative: float
    """The difference over the baseline's rate; infinite or NaN where the baseline makes no error."""
    relative_upper: float
    """Upper end of the one-sided 95 % interval of `relative`; infinite where the baseline makes too few errors."""
    margin_percent: float
    """Largest relative increase of the baseline's rate, in percent, that still counts as "not worse"."""
    sentences: int
    baseline_errors: int
    speakers: int | None = None
    """Number of speakers, where these were resampled and not sentences."""

    @property
    def verdict(self) -> Verdict:
        """The first of these that applies.

        1. `undecided`: there are fewer than 20 sentences, for which a bootstrap interval is too narrow.
        2. `better`: the two-sided 95 % interval of the difference lies below zero.
        3. `not worse`: the upper end of the one-sided 95 % interval of the relative difference is within the margin.
           That holds where the difference itself is surely above zero, too: it is then real, and smaller than the
           margin.
        4. `worse`: the two-sided 95 % interval of the difference lies above zero.
        5. `undecided`: none of these.
        """
        if self.sentences < FEWEST_SENTENCES:
            return "undecided"
        if self.interval[1] < 0:
            return "better"
        if self.relative_upper * 100 <= self.margin_percent:
            return "not worse"
        return "worse" if self.interval[0] > 0 else "undecided"

    @property
    def sentence(self) -> str:
        """The verdict in words with its figures: `worse: +1.30 points [+1.01, +1.61] (+43 % relative)`."""
        low, high = (f"{100 * end:+.2f}" for end in self.interval)
        said = f"not worse than {self.margin_percent:g} %" if self.verdict == "not worse" else self.verdict
        relative = self._relative
        return f"{said}: {100 * self.difference:+.2f} points [{low}, {high}]" + (f" ({relative})" if relative else "")

    @property
    def _relative(self) -> str:
        """The relative difference in words, and what it lacks for a verdict where there is none."""
        parts = [f"{100 * self.relative:+.0f} % relative"] if math.isfinite(self.relative) else []
        if self.verdict in ("not worse", "undecided") and math.isfinite(self.relative_upper):
            parts.append(f"at most {100 * self.relative_upper:+.0f} %")
        if self.verdict == "undecided":
            if self.sentences < FEWEST_SENTENCES:
                parts.append(f"{self.sentences} sentences are too few for a verdict")
            elif not math.isfinite(self.relative_upper):
                parts.append("the baseline makes too few errors to compare with")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "points": _percent(self.difference),
            "interval": [_percent(end) for end in self.interval],
            "resampled": "sentences" if self.speakers is None else "speakers",
            "relative_percent": _percent(self.relative),
            "smallest_supported_margin_percent": _percent(max(self.relative_upper, 0.0)),
            "margin_percent": self.margin_percent,
        }


def paired_difference(
    candidate: ErrorCounts,
    baseline: ErrorCounts,
    *,
    margin_percent: float = 10.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare two recognisers on the same sentences, which are resampled together.

    A resample in which the baseline makes no error counts as infinitely worse, whatever the candidate does: too few
    errors cannot support a relative claim.

    Raises:
        ValueError: the two were evaluated against different references, or speech of different speakers.
    """
    if not np.array_equal(candidate.reference, baseline.reference):
        raise ValueError("the two recognisers were evaluated against different references")
    if list(candidate.speakers) != list(baseline.speakers):
        raise ValueError("the two recognisers were evaluated on speech of different speakers")
    return bootstrap_difference(
        candidate.per_sentence,
        baseline.per_sentence,
        baseline.reference,
        speakers=baseline.speakers,
        margin_percent=margin_percent,
        resamples=resamples,
        seed=seed,
    )


def bootstrap_interval(
    errors: NDArray[Any],
    reference: NDArray[Any],
    *,
    speakers: Speakers = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The two-sided 95 % interval of an error rate, as fractions.

    Without any error every resample is without errors too; the upper end is then the exact binomial one (Clopper and
    Pearson 1934), so that 0 errors in 30 words do not read as certainty.

    Args:
        errors: (sentences,) counts, or means over several runs.
        reference: (sentences,) lengths of the references.
        speakers: (sentences,) who spoke each: whole speakers are resampled where all are known and there are at least
            20 of them; by default sentences are.
    """
    words = int(reference.sum())
    if words and not errors.sum():
        return 0.0, 1 - ((1 - CONFIDENCE) / 2) ** (1 / words)
    sums = resampled_sums(np.stack([errors, reference], 1), speakers=speakers, resamples=resamples, seed=seed)
    return _two_sided(_ratio(sums[:, 0], sums[:, 1]))


def bootstrap_difference(
    candidate: NDArray[Any],
    baseline: NDArray[Any],
    reference: NDArray[Any],
    *,
    speakers: Speakers = (),
    margin_percent: float = 10.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """`paired_difference` from the errors of each sentence: counts, or means over several runs.

    Args:
        candidate: (sentences,) errors.
        baseline: (sentences,) errors.
        reference: (sentences,) lengths of the references.
        speakers: as in `bootstrap_interval`; both errors of a speaker's sentences stay together.
    """
    values = np.stack([candidate, baseline, reference], 1)
    sums = resampled_sums(values, speakers=speakers, resamples=resamples, seed=seed)
    relative = np.where(sums[:, 1] > 0, _ratio(sums[:, 0] - sums[:, 1], sums[:, 1]), np.inf)
    change = candidate.sum() - baseline.sum()
    return PairedDifference(
        difference=float(change / reference.sum()) if reference.sum() else math.nan,
        interval=_two_sided(_ratio(sums[:, 0] - sums[:, 1], sums[:, 2])),
        relative=float(_ratio(change, baseline.sum())),
        # An order statistic: interpolating towards infinity would be NaN.
        relative_upper=float(np.quantile(relative, CONFIDENCE, method="higher")),
        margin_percent=margin_percent,
        sentences=len(reference),
        baseline_errors=int(baseline.sum()),
        speakers=speakers_in(speakers) if resampled(speakers) == "speakers" else None,
    )


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
