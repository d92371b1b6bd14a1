"""No sentence is in two splits, whatever its voice and spelling."""

import random
from collections import Counter

import pytest

from trimbre.data.splits import split_of


def distinct_texts(count: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join("".join(draw.choices("aeioubcdfg", k=6)) for _ in range(2)) for _ in range(count)]


@pytest.mark.parametrize("text", distinct_texts(30))
def test_every_spelling_of_a_sentence_falls_on_the_same_side(text):
    plain = f"{text} it's twenty one"
    spellings = [plain.upper(), f"  “{plain}”, ", plain.replace("'", "’"), plain.replace("twenty one", "21") + "!"]
    assert {split_of(spelling, language="en") for spelling in spellings} == {split_of(plain, language="en")}


def test_shares_are_those_asked_for():
    count = 4000
    texts = distinct_texts(count)
    shares = Counter(map(split_of, texts))
    # Four standard deviations of a binomial with these odds.
    assert shares["train"] / count == pytest.approx(0.8, abs=4 * (0.16 / count) ** 0.5)
    for split in ("dev", "test"):
        assert shares[split] / count == pytest.approx(0.1, abs=4 * (0.09 / count) ** 0.5)
    assert [split_of(text, (8, 1, 1)) for text in texts] == [split_of(text) for text in texts]
    assert {split_of(text, (0, 0, 1)) for text in texts} == {"test"}
