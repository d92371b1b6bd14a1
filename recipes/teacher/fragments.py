"""Write sentences of known words in an order that tells nothing of what comes next: pieces of sentences, joined.

`python recipes/teacher/fragments.py --sentences data/sentences.txt --cuts data/en/train --count 45000 --out FILE`

A recogniser that hears a word only where it is to be expected hears the expectation: of words that it knows it misses a
third when they come in another order.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from sentences import LONGEST, transcripts

PIECES = (1, 2, 2, 3, 3, 4)
WORDS = (1, 1, 2, 2, 3, 4, 5)
SHARE = 0.6  # of the pieces that are cut from transcripts; the others are the grammar's


def fragments(spoken: Sequence[str], written: Sequence[str], *, count: int, seed: int) -> Iterator[str]:
    """`count` sentences of at most 16 words, of pieces of `spoken` (most often of the long ones) and `written`."""
    draw = random.Random(seed)
    lengths = [len(text.split()) for text in spoken]
    seen = {*spoken, *written}
    found = 0
    while found < count:
        said: list[str] = []
        for _ in range(draw.choice(PIECES)):
            (text,) = draw.choices(spoken, lengths) if draw.random() < SHARE else [draw.choice(written)]
            words = text.split()
            start = draw.randrange(len(words))
            said += words[start : start + draw.choice(WORDS)]
        sentence = " ".join(said[:LONGEST])
        if sentence not in seen:
            seen.add(sentence)
            found += 1
            yield sentence


def main() -> None:
    """Write the file and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sentences", type=Path, required=True, help="one a line")
    parser.add_argument("--cuts", type=Path, required=True, help="recordings whose training transcripts are cut, too")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    written = asked.sentences.read_text().splitlines()
    lines = list(fragments(transcripts(asked.cuts), written, count=asked.count, seed=asked.seed))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text("".join(f"{line}\n" for line in lines))
    print(f"{len(lines)} sentences of {sum(len(line.split()) for line in lines)} words in {asked.out}")


if __name__ == "__main__":
    main()
