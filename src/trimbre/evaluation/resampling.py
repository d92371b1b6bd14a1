"""What a bootstrap resamples: whole speakers where enough of them are known, sentences elsewhere.

Errors within a sentence depend on each other (Bisani and Ney 2004), and sentences of one speaker do too (Liu and Peng
2020): an interval over sentences is too narrow where a speaker has many of them. A bootstrap over few speakers is too
narrow as well, so that it takes `FEWEST_SPEAKERS` of them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
FEWEST_SPEAKERS = 20  # with fewer, sentences are resampled

Resampled = Literal["speakers", "sentences"]
Speakers = Sequence[str | None]
"""The speaker of each sentence, None where it is not known; empty where none is."""


def speakers_in(speakers: Speakers) -> int | None:
    """Number of speakers; None unless every sentence has one."""
    return None if not len(speakers) or None in speakers else len(set(speakers))


def resampled(speakers: Speakers) -> Resampled:
    """What is resampled in a set of sentences by these speakers."""
    return "speakers" if (speakers_in(speakers) or 0) >= FEWEST_SPEAKERS else "sentences"


def numbered(speakers: Speakers) -> list[int]:
    """A number for each sentence's speaker, in the order in which speakers first occur."""
    order = {speaker: number for number, speaker in enumerate(dict.fromkeys(speakers))}
    return [order[speaker] for speaker in speakers]


def resampled_sums(
    values: NDArray[Any], *, speakers: Speakers = (), resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[Any]:
    """Draw sentences, or whole speakers, with replacement and sum their values.

    Args:
        values: (sentences, columns); the columns of a sentence stay together.
        speakers: (sentences,) as `Speakers`.

    Returns:
        (resamples, columns), a function of the seed.

    Raises:
        ValueError: there is no sentence, or not one speaker for each.
    """
    if not len(values):
        raise ValueError("there is no sentence to resample")
    if len(speakers) not in (0, len(values)):
        raise ValueError(f"{len(speakers)} speakers for {len(values)} sentences: give one for each")
    if resampled(speakers) == "speakers":
        values = _summed(values, np.array(numbered(speakers)))
    return np.concatenate(list(_sums(values, resamples, np.random.default_rng(seed))))


def _summed(values: NDArray[Any], speakers: NDArray[np.int64]) -> NDArray[Any]:
    """(speakers, columns): the sums over each speaker's sentences."""
    found = np.zeros((speakers.max() + 1, values.shape[1]), dtype=values.dtype)
    np.add.at(found, speakers, values)
    return found


def _sums(values: NDArray[Any], resamples: int, rng: np.random.Generator) -> Iterator[NDArray[Any]]:
    at_once = max(1, 2_000_000 // len(values))  # draws held in memory at a time
    for start in range(0, resamples, at_once):
        drawn = rng.integers(len(values), size=(min(at_once, resamples - start), len(values)))
        yield np.stack([column[drawn].sum(1) for column in values.T], 1)
