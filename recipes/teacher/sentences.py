"""Write the training sentences of the small teacher.

`python recipes/teacher/sentences.py --count 20000 --seed 1 --out sentences.txt` writes one distinct sentence
a line, lower case, numbers and letters spelled out. `--domain unseen` writes sentences of the same subject
that the main grammar cannot produce, for a watched set. `trimbre.data.splits.split_of` assigns sentences and
prompts to train, dev and test, so that no training sentence is a test prompt.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from grammar import Grammar

HERE = Path(__file__).resolve().parent
LONGEST = 16  # words; about 7 seconds of speech, so that batches stay small
PATIENCE = 100_000  # draws in a row without a new sentence before the grammar counts as exhausted


def grammar_of(domain: str) -> Grammar:
    """The grammar of `main` or `unseen`."""
    return Grammar.from_files(HERE / "lexicon.txt", HERE / f"{domain}.txt")


def sentences(*, count: int, seed: int, domain: str = "main") -> Iterator[str]:
    """`count` distinct sentences of 1 to 16 words; those of `unseen` are none that `main` produces.

    Raises ValueError if the grammar has fewer sentences than asked for.
    """
    main = grammar_of("main") if domain == "unseen" else None
    seen: set[str] = set()
    failures = 0
    for sentence in grammar_of(domain).sentences(seed=seed):
        if len(seen) == count:
            return
        known = sentence in seen or len(sentence.split()) > LONGEST
        if known or (main is not None and main.contains(sentence)):
            failures += 1
            if failures == PATIENCE:
                raise ValueError(f"the {domain} grammar gave only {len(seen)} distinct sentences, {count} asked for")
            continue
        failures = 0
        seen.add(sentence)
        yield sentence


def transcripts(cuts: Path) -> list[str]:
    """The distinct transcripts of a manifest that belong to the training split, normalised, in its order."""
    from trimbre.data.cuts import read_cuts
    from trimbre.data.splits import split_of
    from trimbre.data.text import normalise

    texts = (normalise(cut.supervisions[0].text, "basic", language="en") for cut in read_cuts(cuts))
    return [text for text in dict.fromkeys(texts) if text and split_of(text, language="en") == "train"]


def main() -> None:
    """Write the file and print its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, required=True, help="distinct sentences of the grammar")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domain", choices=["main", "unseen"], default="main")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--with-transcripts", type=Path, metavar="CUTS", help="add the training transcripts of this manifest"
    )
    parser.add_argument("--repeats", type=int, default=4, help="times each of those transcripts is added")
    asked = parser.parse_args()

    if asked.count < 1:
        parser.error(f"--count {asked.count}: ask for at least one sentence")
    if asked.domain == "unseen" and asked.with_transcripts:
        parser.error("--with-transcripts: training transcripts do not belong in --domain unseen")
    try:
        lines = list(sentences(count=asked.count, seed=asked.seed, domain=asked.domain))
    except ValueError as error:
        parser.error(str(error))
    if asked.with_transcripts:
        lines += transcripts(asked.with_transcripts) * asked.repeats
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    words = [word for line in lines for word in line.split()]
    average = len(words) / len(lines)
    print(f"{len(lines)} sentences, {average:.1f} words each, {len(set(words))} distinct words: {asked.out}")


if __name__ == "__main__":
    main()
