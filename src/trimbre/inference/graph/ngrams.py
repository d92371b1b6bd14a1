"""What is likely to be said: n-grams of words, estimated from sentences or read from an ARPA file."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trimbre.errors import OptionError

START, END = "<s>", "</s>"
BLANKS = " \t\r\n"
"""What fields are apart by. Others, such as a no-break space, can be parts of words."""
UNKNOWN = {"<unk>", "<UNK>"}
History = tuple[str, ...]


@dataclass(frozen=True)
class NGrams:
    """N-grams in back-off form: what isn't listed after a history costs its back-off and what it costs after less.

    Costs are negative natural logarithms of probabilities.
    """

    order: int
    """Words that an n-gram has at most; a history has one less."""
    costs: dict[History, dict[str, float]]
    """History, oldest word first -> the words that were seen after it, END among them."""
    backoff: dict[History, float]
    """Of every history in `costs` but the empty one."""

    @property
    def words(self) -> list[str]:
        """All words, sorted, without START and END."""
        return sorted(self.costs[()].keys() - {START, END})

    def known(self, history: History) -> History:
        """The longest end of a history that anything is listed after."""
        while history not in self.costs:
            history = history[1:]
        return history


def estimate(sentences: Iterable[str], order: int) -> NGrams:
    """N-grams of sentences by Witten and Bell (1991), interpolated (Chen and Goodman 1998, section 2.5).

    A history h that was followed N times by T distinct words gives w, which followed it c times, the probability
    (c + T p(w | h without its oldest word)) / (N + T), and what never followed it the same with c = 0.

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
                told = line.strip(BLANKS)
                if heading := re.fullmatch(r"\\(\d+)-grams:", told):
                    order = int(heading[1])
                elif told == "\\end\\":
                    ended = True
                elif order and told and not told.startswith("\\"):
                    try:
                        cost, words, weight = _ngram(told, order)
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
        raise OptionError("arpa", str(path), str(error)) from error
    if not order:
        raise OptionError("arpa", str(path), "there are no n-grams in it; give a file that KenLM or SRILM wrote")
    if not ended:
        raise OptionError("arpa", str(path), "it does not end with \\end\\, so that a part is missing: fetch it again")
    if END not in costs[()]:
        raise OptionError("arpa", str(path), f"it lacks {END} among its 1-grams, without which no sentence ends")
    for history in list(costs):  # what a back-off leads to has to be there
        while history:
            backoff.setdefault(history, 0.0)
            history = history[1:]
            costs.setdefault(history, {})
    return NGrams(order, costs, backoff)


def _ngram(line: str, order: int) -> tuple[float, History, float]:
    """The cost, the words and the back-off of a line; raises ValueError for another."""
    fields = re.split(f"[{BLANKS}]+", line)
    words = tuple(fields[1 : order + 1])
    if len(words) < order:
        raise ValueError(f"it has fewer than {order} words")
    cost, weight = (-float(number) * math.log(10) for number in (fields[0], (*fields, "0")[order + 1]))
    if not (math.isfinite(cost) and math.isfinite(weight)):
        raise ValueError("a number isn't finite")
    return cost, words, weight
