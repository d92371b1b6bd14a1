"""Mix several sets into one manifest in random order, each with so many utterances.

`python recipes/teacher/mix.py data/voices/train=8000 data/en/train=1712 --out data/mix`

A sampler shuffles the next 20,000 utterances of what it reads: of more, those of the last sets come late. An utterance
comes again where more are asked for than there are, as often as any other of its set or once more.
"""

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trimbre.data.cuts import read_cuts, write_cuts


def mixed(sets: Mapping[str, tuple[Sequence[Any], int]], *, seed: int) -> list[Any]:
    """The utterances of each set, as many as asked for, together in random order and with ids of their own."""
    draw = random.Random(seed)
    found = [one for cuts, count in sets.values() for one in _drawn(cuts, count, draw)]
    draw.shuffle(found)
    return found


def _drawn(cuts: Sequence[Any], count: int, draw: random.Random) -> Iterator[Any]:
    rounds, rest = divmod(count, len(cuts))
    for again in range(rounds + 1):
        for cut in cuts if again < rounds else draw.sample(list(cuts), rest):
            yield cut.with_id(f"{cut.id}-{again}")


def main() -> None:
    """Write the manifest and print its length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sets", nargs="+", metavar="PATH=COUNT", help="cuts, and how many of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    sets = {}
    for given in asked.sets:
        path, _, count = given.rpartition("=")
        if not path or not count.isdecimal():
            parser.error(f"{given}: give PATH=COUNT")
        sets[path] = (list(read_cuts(path)), int(count))
    found = mixed(sets, seed=asked.seed)
    asked.out.mkdir(parents=True)
    write_cuts(found, asked.out)
    hours = sum(cut.duration for cut in found) / 3600
    print(f"{asked.out}: {len(found):,} utterances, {hours:.1f} h; train on it with --allow-outside")


if __name__ == "__main__":
    main()
