"""Write sentences of known words in random order: pieces of other sentences, joined.

`python recipes/teacher/fragments.py --sentences data/sentences.txt --cuts data/en/train --count 45000 --out FILE`

Trained on grammatical sentences alone, a recogniser learns the order of words and misses known words in another order.
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
    """`count` sentences of at most 16 words, of pieces of `spoken` (sampled by length) and of `written`."""
    rng = random.Random(seed)
    lengths = [len(text.split()) for text in spoken]
    seen = {*spoken, *written}
    found = 0
    while found < count:
        pieces: list[str] = []
        for _ in range(rng.choice(PIECES)):
            (text,) = rng.choices(spoken, lengths) if rng.random() < SHARE else [rng.choice(written)]
            words = text.split()
            start = rng.randrange(len(words))
            pieces += words[start : start + rng.choice(WORDS)]
        sentence = " ".join(pieces[:LONGEST])
        if sentence not in seen:
            seen.add(sentence)
            found += 1
            yield sentence


def main() -> None:
    """Write the file and print its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sentences", type=Path, required=True, help="one a line")
    parser.add_argument("--cuts", type=Path, required=True, help="recordings whose training transcripts are used too")
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
