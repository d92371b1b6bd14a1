"""N-grams against closed forms: Witten and Bell's fractions by hand, and that all that may follow adds up to one."""

import math
import random
from itertools import product

import pytest

from trimbre.errors import UserError
from trimbre.inference.graph.ngrams import END, START, NGrams, estimate, read_arpa

SAID = ["a b", "a c", "a b"]


def cost(ngrams: NGrams, word: str, history: tuple[str, ...]) -> float:
    """What a word costs after a history, backed off as far as it takes; infinity if it is nowhere."""
    history, paid = ngrams.known(history), 0.0
    while word not in ngrams.costs[history]:
        if not history:
            return math.inf
        paid += ngrams.backoff[history]
        history = history[1:]
    return paid + ngrams.costs[history][word]


def chance(ngrams: NGrams, word: str, *history: str) -> float:
    return math.exp(-cost(ngrams, word, history))


def test_the_fractions_by_hand():
    bigrams = estimate(SAID, 2)
    # Of nine words, ends included, of four kinds: a 3, b 2, c 1, END 3, each mixed with a quarter.
    alone = {"a": (3 + 1) / 13, "b": (2 + 1) / 13, "c": (1 + 1) / 13, END: (3 + 1) / 13}
    for word, expected in alone.items():
        assert chance(bigrams, word) == pytest.approx(expected)
    # After a: b twice and c once, which are two kinds in three.
    assert chance(bigrams, "b", "a") == pytest.approx((2 + 2 * alone["b"]) / 5)
    assert chance(bigrams, "c", "a") == pytest.approx((1 + 2 * alone["c"]) / 5)
    assert chance(bigrams, END, "a") == pytest.approx(2 / 5 * alone[END])
    assert chance(bigrams, "a", START) == pytest.approx((3 + 1 * alone["a"]) / 4)
    assert chance(estimate(SAID, 1), "b", "a") == pytest.approx(alone["b"])
    assert cost(bigrams, "nobody said this", ("a",)) == math.inf


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_after_every_history_sum_to_one(order):
    draw = random.Random(order)
    said = [" ".join(draw.choices("vwxyz", k=draw.randint(1, 6))) for _ in range(40)]
    ngrams = estimate(said, order)
    assert ngrams.words == list("vwxyz")
    for history in [(), (START,), *product([START, *"vwxyz"], repeat=3), ("unseen", "of")]:
        total = sum(chance(ngrams, word, *history) for word in [*ngrams.words, END])
        assert total == pytest.approx(1, abs=1e-12)


def test_a_history_backs_off_to_its_longest_known_suffix():
    trigrams = estimate(SAID, 3)
    assert trigrams.known((START, "a")) == (START, "a")
    assert trigrams.known(("c", "a")) == ("a",)
    assert trigrams.known(("a", START, "a")) == (START, "a")
    assert trigrams.known(("unseen",)) == ()


def test_repeated_sentences_count_as_often():
    assert estimate(SAID * 2, 2).costs != estimate(SAID, 2).costs
    assert estimate(SAID[::-1], 2) == estimate(SAID, 2)


@pytest.mark.parametrize(("sentences", "order"), [([], 2), (SAID, 0)])
def test_nothing_to_estimate_from_is_an_error(sentences, order):
    with pytest.raises(ValueError, match="n-grams"):
        estimate(sentences, order)


def as_arpa(ngrams: NGrams) -> str:
    """The same as KenLM would write it."""
    lines = ["\\data\\", *(f"ngram {size}=0" for size in range(1, ngrams.order + 1)), ""]
    listed = {(*history, word): cost for history, words in ngrams.costs.items() for word, cost in words.items()}
    listed[(START,)] = 99 * math.log(10)
    for size in range(1, ngrams.order + 1):
        lines.append(f"\\{size}-grams:")
        if size == 1:
            lines.append("-9.9\t<unk>\t0")
        for words, cost in listed.items():
            if len(words) == size:
                backoff = ngrams.backoff.get(words)
                tail = "" if backoff is None else f"\t{-backoff / math.log(10)!r}"
                lines.append(f"{-cost / math.log(10)!r}\t{' '.join(words)}{tail}")
        lines.append("")
    return "\n".join([*lines, "\\end\\", ""])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_an_arpa_file_gives_the_same_costs(tmp_path, order):
    ngrams = estimate(["a b c", "a a c", "b c", "c"], order)
    file = tmp_path / "some.arpa"
    file.write_text(as_arpa(ngrams))
    read = read_arpa(file)
    assert read.order == order
    assert read.words == ngrams.words == ["a", "b", "c"]
    for history in product([START, "a", "b", "c"], repeat=2):
        for word in ["a", "b", "c", END]:
            assert cost(read, word, history) == pytest.approx(cost(ngrams, word, history))


def test_an_arpa_file_may_leave_out_what_a_history_backs_off_to(tmp_path):
    file = tmp_path / "pruned.arpa"
    file.write_text("\\1-grams:\n-1\ta\n-1\tb\n-1\t</s>\n\\2-grams:\n\\3-grams:\n-0.5\ta b a\n\\end\\\n")
    read = read_arpa(file)
    assert cost(read, "a", ("a", "b")) == pytest.approx(0.5 * math.log(10))
    assert cost(read, "b", ("a", "b")) == pytest.approx(math.log(10))


def test_a_no_break_space_is_a_part_of_a_word(tmp_path):
    file = tmp_path / "some.arpa"
    file.write_text("\\1-grams:\n-1\tdix\u00a0mille\t-0.2\n-1\t</s>\n\\end\\\n")
    assert read_arpa(file).words == ["dix\u00a0mille"]


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("", "no n-grams"),
        ("a sentence\n", "no n-grams"),
        ("\\1-grams:\n-1 a\nbroken b\n", "line 3"),
        ("\\1-grams:\n-inf a\n", "line 2"),
        ("\\1-grams:\n-1 a\n\\2-grams:\n-1 a\n", "line 4"),
        ("\\1-grams:\n-1 a\n-1 </s>\n", "a part is missing"),
        ("\\1-grams:\n-1 a\n\\end\\\n", "no sentence ends"),
    ],
)
def test_a_malformed_arpa_file_is_refused_with_its_line(tmp_path, text, culprit):
    file = tmp_path / "broken.arpa"
    file.write_text(text)
    with pytest.raises(UserError, match=culprit) as caught:
        read_arpa(file)
    assert str(file) in str(caught.value)
    with pytest.raises(UserError, match="missing"):
        read_arpa(tmp_path / "missing.arpa")
