"""Which split an utterance belongs to: decided by what is said, so that no sentence stands on both sides."""

import hashlib

from trimbre.data.text import normalise

SPLITS = ("train", "dev", "test")


def split_of(text: str, ratios: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> str:
    """`train`, `dev` or `test`, by a hash of the normalised text: the same in every voice and spelling."""
    place = place_of(text) * sum(ratios)
    return "train" if place < ratios[0] else "dev" if place < ratios[0] + ratios[1] else "test"


def place_of(text: str) -> float:
    """A number from 0 to below 1 that follows from the normalised text alone: to divide sentences into any parts."""
    digest = hashlib.sha256(normalise(text, "basic").encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
