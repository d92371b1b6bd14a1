"""N-gram language models of words, estimated from sentences or read from an ARPA file."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trimbre.errors import OptionError, reason

START, END = "<s>", "</s>"
BLANKS = " \t\r\n"
"""Characters that separate fields. Others, such as a no-break space, can be parts of words."""
UNKNOWN = {"<unk>", "<UNK>"}
History = tuple[str, ...]


@dataclass(frozen=True)
class NGrams:
    """A back-off model: a word not listed after a history costs the back-off plus its cost after the shorter history.

    Costs are negative natural logarithms of probabilities.
    """

    order: int
    """Words of the longest n-gram; a history has one less."""
    costs: dict[History, dict[str, float]]
    """History, oldest word first -> cost of every word seen after it, END among them."""
    backoff: dict[History, float]
    """Back-off cost of every history in `costs` but the empty one."""

    @property
    def words(self) -> list[str]:
        """All words, sorted, without START and END."""
        return sorted(self.costs[()].keys() - {START, END})

    def known(self, history: History) -> History:
        """The longest suffix of a history that has listed words."""
        while history not in self.costs:
            history = history[1:]
        return history


def estimate(sentences: Iterable[str], order: int) -> NGrams:
    """Interpolated Witten-Bell n-grams (Witten and Bell 1991; Chen and Goodman 1998, section 2.5).

    With N occurrences of a history h, followed by T distinct words, a word w that followed it c times has the
    probability (c + T p(w | h without its oldest word)) / (N + T); c is 0 for words that never followed it.

    Args:
        sentences: words with spaces between them; one that occurs twice counts twice.

    Raises:
        ValueError: there is no sentence, or the order is below 1.
    """
    if order < 1:
        raise ValueError(f"n-grams have at least one word, not {order}")
    counts: list[defaultdict[History, Counter[str]]] = [defaultdict(Counter) for _ in range(order)]
    for sentence in sentences:
        words = (START, *sentence.split(), END)
        for place in range(1, len(words)):
            for size in range(min(order, place + 1)):
                counts[size][words[place - size : place]][words[place]] += 1
    if not counts[0]:
        raise ValueError("there is no sentence to estimate n-grams from")
    chances: dict[History, dict[str, float]] = {}
    backoff: dict[History, float] = {}
    for size, of_size in enumerate(counts):
        for history, followers in of_size.items():
            total, kinds = followers.total(), len(followers)
            shorter = chances[history[1:]] if size else dict.fromkeys(followers, 1 / kinds)
            chances[history] = {
                word: (count + kinds * shorter[word]) / (total + kinds) for word, count in followers.items()
            }
            if size:
                backoff[history] = -math.log(kinds / (total + kinds))
    costs = {
        history: {word: -math.log(chance) for word, chance in followers.items()}
        for history, followers in chances.items()
    }
    return NGrams(order, costs, backoff)


def read_arpa(path: Path) -> NGrams:
    """N-grams of an ARPA file, as KenLM and SRILM write them; unknown words are left out.

    Raises:
        UserError: the file cannot be read, or isn't one, or not all of one.
    """
    costs: dict[History, dict[str, float]] = {(): {}}
    backoff: dict[History, float] = {}
    order, ended = 0, False
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                text = line.strip(BLANKS)
                if heading := re.fullmatch(r"\\(\d+)-grams:", text):
                    order = int(heading[1])
                elif text == "\\end\\":
                    ended = True
                elif order and text and not text.startswith("\\"):
                    try:
                        cost, words, weight = _ngram(text, order)
                    except ValueError as error:
                        raise OptionError("arpa", str(path), f"line {number} is no {order}-gram: {error}") from error
                    if UNKNOWN & set(words):
                        continue
                    if words[-1] != START:
                        costs.setdefault(words[:-1], {})[words[-1]] = cost
                    if weight:
                        costs.setdefault(words, {})
                        backoff[words] = weight
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError("arpa", str(path), f"it cannot be read: {reason(error)}") from error
    if not order:
        raise OptionError("arpa", str(path), "there are no n-grams in it; give a file that KenLM or SRILM wrote")
    if not ended:
        raise OptionError("arpa", str(path), "it does not end with \\end\\, so that a part is missing: fetch it again")
    if END not in costs[()]:
        raise OptionError("arpa", str(path), f"it lacks {END} among its 1-grams, without which no sentence ends")
    for history in list(costs):  # the target of every back-off has to exist
        while history:
            backoff.setdefault(history, 0.0)
            history = history[1:]
            costs.setdefault(history, {})
    return NGrams(order, costs, backoff)


def _ngram(line: str, order: int) -> tuple[float, History, float]:
    """The cost, the words and the back-off of a line; raises ValueError for a malformed one."""
    fields = re.split(f"[{BLANKS}]+", line)
    words = tuple(fields[1 : order + 1])
    if len(words) < order:
        raise ValueError(f"it has fewer than {order} words")
    cost, weight = (-float(number) * math.log(10) for number in (fields[0], (*fields, "0")[order + 1]))
    if not (math.isfinite(cost) and math.isfinite(weight)):
        raise ValueError("a number isn't finite")
    return cost, words, weight
