"""Which split an utterance belongs to: decided by what is said, so that no sentence stands on both sides."""

import hashlib
from collections.abc import Collection
from pathlib import Path

from trimbre.data.text import normalise
from trimbre.errors import UserError

SPLITS = ("train", "dev", "test")


def split_of(text: str, ratios: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> str:
    """`train`, `dev` or `test`, by a hash of the normalised text: the same in every voice and spelling."""
    place = place_of(text) * sum(ratios)
    return "train" if place < ratios[0] else "dev" if place < ratios[0] + ratios[1] else "test"


def sentences_in(file: Path, splits: Collection[str] = SPLITS) -> list[tuple[str, str]]:
    """The sentences of a text file, one a line, that belong to some splits, each with its split.

    Raises:
        UserError: the file cannot be read or has no such sentence, or there is no split of that name.
    """
    for split in splits:
        if split not in SPLITS:
            raise UserError(f"--splits {split}: choose among {', '.join(SPLITS)}")
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--sentences {file}: {error}") from error
    found = [(line, split) for line in lines if normalise(line) and (split := split_of(line)) in splits]
    if not found:
        raise UserError(f"--sentences {file}: no sentence of the splits {', '.join(splits)} is in it")
    return found


def place_of(text: str) -> float:
    """A number from 0 to below 1 that follows from the normalised text alone: to divide sentences into any parts."""
    digest = hashlib.sha256(normalise(text, "basic").encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
