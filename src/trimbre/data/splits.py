"""Train, dev and test splits by a hash of the transcript, so that no sentence is in two of them."""

import hashlib
from collections.abc import Collection
from pathlib import Path

from trimbre.data.text import normalise
from trimbre.errors import OptionError, one_of, reason

SPLITS = ("train", "dev", "test")


def split_of(text: str, ratios: tuple[float, float, float] = (0.8, 0.1, 0.1), *, language: str | None = None) -> str:
    """`train`, `dev` or `test`, by a hash of the normalised text: the same for every voice and spelling.

    Args:
        ratios: of the three splits' sizes.
        language: code of the text's language, in which digits are words; None leaves digits.
    """
    place = place_of(text, language=language) * sum(ratios)
    return "train" if place < ratios[0] else "dev" if place < ratios[0] + ratios[1] else "test"


def sentences_in(
    file: str | Path, splits: Collection[str] = SPLITS, *, language: str | None = None
) -> list[tuple[str, str]]:
    """The sentences of a text file, one per line, that belong to `splits`, each with its split.

    Raises:
        OptionError: the file cannot be read or has no such sentence, or there is no split of that name.
    """
    for split in splits:
        one_of("splits", split, SPLITS)
    try:
        lines = [line.strip() for line in Path(file).read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError("sentences", str(file), f"it cannot be read: {reason(error)}") from error
    spoken = [line for line in lines if normalise(line, language=language)]
    found = [(line, split) for line in spoken if (split := split_of(line, language=language)) in splits]
    if not found:
        of = "" if set(splits) == set(SPLITS) else f" of the splits {', '.join(splits)}"
        raise OptionError("sentences", str(file), f"no sentence{of} is in it: give others")
    return found


def place_of(text: str, *, language: str | None = None) -> float:
    """A hash of the normalised text as a number from 0 to below 1, to divide sentences by."""
    digest = hashlib.sha256(normalise(text, "basic", language=language).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
