"""Repetition loops: texts in which a recogniser writes the same words again and again."""

import re

TURNS = 4
"""How often a span has to stand in a row."""
LONGEST_PERIOD = 24
"""Words, or characters, in one turn of a loop, at most."""
LONG_WORD = 16
"""Letters of a word in which loops are looked for too, such as a row of digits or of laughs, at least."""


def is_loop(reference: str, hypothesis: str, *, characters: bool = False) -> bool:
    """Whether a hypothesis goes round in a loop that nobody speaks.

    A span of words stands four or more times in a row, and the reference's longest such row is shorter by two turns or
    more: people repeat themselves too. So does a span of letters within a word of 16 letters.

    Args:
        characters: compare these, without spaces, and not words.
    """
    spoken, written = (list("".join(text.split())) if characters else text.split() for text in (reference, hypothesis))
    if (most := turns(written)) >= TURNS and most >= turns(spoken) + 2:
        return True
    spelled = [word for word in written if len(word) >= LONG_WORD and word not in spoken]
    return any(re.search(rf"(.{{1,{LONGEST_PERIOD}}}?)\1{{{TURNS - 1},}}", word) for word in spelled)


def turns(units: list[str]) -> int:
    """How often a span of up to `LONGEST_PERIOD` units stands in a row, at most."""
    most = min(1, len(units))
    for period in range(1, min(LONGEST_PERIOD, len(units) // 2) + 1):
        alike = 0
        for here, there in zip(units, units[period:], strict=False):
            alike = alike + 1 if here == there else 0
            most = max(most, alike // period + 1)
    return most
