"""A small context-free grammar without recursion: sample sentences, recognise them, count them.

A grammar file holds rules, one a paragraph: `name: alternative | alternative`, continued on indented lines
(each line break counts as `|`). `{other}` in an alternative is replaced by a sentence of that rule,
everything else is a word of the sentence, and `3 * ` in front makes an alternative three times as likely.
`#` starts a comment line.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

RULE = re.compile(r"(\w+):\s*(.*)")
ALTERNATIVE = re.compile(r"(?:(\d+) \* )?(.+)")
WORD = re.compile(r"[a-z']+")


@dataclass(frozen=True)
class Alternative:
    """One expansion of a rule: `parts` are words, or names of rules in braces."""

    weight: int
    parts: tuple[str, ...]


class Grammar:
    """Rules by name; `sentence` is where a sentence starts.

    Raises ValueError if a rule is defined twice, is missing or refers to itself, or a word has characters
    other than a-z and the apostrophe.
    """

    def __init__(self, *texts: str) -> None:
        self.rules: dict[str, list[Alternative]] = {}
        for text in texts:
            self._read(text)
        # Counted here, so that a loop or a missing rule raises at once and not while sampling.
        self._derivations = self._counted()

    @classmethod
    def from_files(cls, *paths: Path) -> "Grammar":
        """The rules of several files together."""
        return cls(*(path.read_text(encoding="utf-8") for path in paths))

    def sentences(self, *, seed: int) -> Iterator[str]:
        """Endless random sentences, not distinct; the same seed gives the same ones."""
        rng = random.Random(seed)
        while True:
            yield " ".join(self._sample("sentence", rng))

    def contains(self, sentence: str) -> bool:
        """Whether this grammar produces the sentence, by an exact search."""
        words = sentence.split()

        @cache
        def ends(rule: str, start: int) -> frozenset[int]:
            return frozenset().union(*(walk(one.parts, start) for one in self.rules[rule]))

        def walk(parts: tuple[str, ...], start: int) -> frozenset[int]:
            places = {start}
            for part in parts:
                if part[0] == "{":
                    places = {end for place in places for end in ends(part[1:-1], place)}
                else:
                    places = {place + 1 for place in places if place < len(words) and words[place] == part}
            return frozenset(places)

        return len(words) in ends("sentence", 0)

    def derivations(self) -> int:
        """How many ways there are to derive a sentence: an upper bound on the number of distinct ones."""
        return self._derivations["sentence"]

    def vocabulary(self) -> set[str]:
        """Every word a sentence can contain."""
        words: set[str] = set()
        waiting, met = ["sentence"], {"sentence"}
        while waiting:
            for part in (part for one in self.rules[waiting.pop()] for part in one.parts):
                if part[0] != "{":
                    words.add(part)
                elif part[1:-1] not in met:
                    met.add(part[1:-1])
                    waiting.append(part[1:-1])
        return words

    def _read(self, text: str) -> None:
        name = ""
        for line in text.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            body = line.strip()
            if not name or not line[0].isspace():
                started = RULE.fullmatch(line)
                if not started or started[1] in self.rules:
                    raise ValueError(f"not the start of a new rule: {line!r}")
                name, body = started[1], started[2]
                self.rules[name] = []
            for alternative in filter(None, (piece.strip() for piece in body.split("|"))):
                found = ALTERNATIVE.fullmatch(alternative)
                assert found
                parts = tuple(found[2].split())
                if wrong := [part for part in parts if part[0] != "{" and not WORD.fullmatch(part)]:
                    raise ValueError(f"not a word of a-z and apostrophe in rule {name!r}: {wrong[0]!r}")
                self.rules[name].append(Alternative(int(found[1] or 1), parts))

    def _sample(self, rule: str, rng: random.Random) -> Iterator[str]:
        alternatives = self.rules[rule]
        (chosen,) = rng.choices(alternatives, weights=[one.weight for one in alternatives])
        for part in chosen.parts:
            if part[0] == "{":
                yield from self._sample(part[1:-1], rng)
            else:
                yield part

    def _counted(self) -> dict[str, int]:
        counts: dict[str, int] = {}

        def count(rule: str, above: tuple[str, ...]) -> int:
            if rule in above:
                raise ValueError(f"rule {rule!r} refers to itself")
            if rule not in self.rules:
                raise ValueError(f"rule {rule!r} is used but not defined")
            if rule not in counts:
                total = 0
                for one in self.rules[rule]:
                    ways = 1
                    for part in one.parts:
                        ways *= count(part[1:-1], (*above, rule)) if part[0] == "{" else 1
                    total += ways
                counts[rule] = total
            return counts[rule]

        for rule in self.rules:
            count(rule, ())
        return counts
