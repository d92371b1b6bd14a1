"""N-grams, spellings and CTC's topology as one weighted automaton (Mohri, Pereira and Riley 2002; Miao et al. 2015).

Its input labels are one more than the model's labels, its output labels one more than the places of the words in
order: 0 says "nothing" on both sides. Costs are negative natural logarithms.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kaldifst import StdArc, StdVectorFst, arcsort, compose

from trimbre.inference.graph.ngrams import END, START, NGrams

NOTHING = 0


@dataclass
class Node:
    """Words that begin with the same labels."""

    following: dict[int, "Node"] = field(default_factory=dict)
    words: list[tuple[str, float]] = field(default_factory=list)
    """What is spelled by here, and its cost."""
    least: float = math.inf
    """Cost of the cheapest word from here on: paid as early as that is certain, a search drops others early."""

    def add(self, labels: Sequence[int], word: str, cost: float) -> None:
        node = self
        node.least = min(node.least, cost)
        for label in labels:
            node = node.following.setdefault(label, Node())
            node.least = min(node.least, cost)
        node.words.append((word, cost))


def network(
    ngrams: NGrams, spellings: Mapping[str, Sequence[int]], *, weight: float, blank: int, space: int | None
) -> StdVectorFst:
    """All that may be said, as frames of labels: sentences, one after the other.

    Args:
        spellings: the labels of every word that may be said; other words of the n-grams may not.
        weight: what the costs of n-grams are multiplied by. With 0 every sequence of these words is as likely.
        blank: the label that says "nothing here".
        space: the label that stands between words, for vocabularies with one; the last word ends with one too, and
            further ones may stand anywhere between words.
    """
    ends = () if space is None else (space,)
    spelled = {word: (*labels, *ends) for word, labels in spellings.items()}
    said = _sentences(ngrams, spelled, weight)
    if space is not None:
        for state in range(len(ngrams.costs)):
            _arc(said, state, space + 1, NOTHING, 0.0, state)
    arcsort(said, "ilabel")
    labels = sorted({label for each in spelled.values() for label in each})
    return compose(_topology(labels, blank), said)


def _sentences(ngrams: NGrams, spelled: Mapping[str, Sequence[int]], weight: float) -> StdVectorFst:
    """Labels to words: a state for each history, the first ones, and a tree of spellings from each to the next."""
    start = ngrams.known((START,))
    said = StdVectorFst()
    states = {history: said.add_state() for history in ngrams.costs}
    places = {word: place for place, word in enumerate(sorted(spelled), start=1)}
    said.start = states[start]
    for history, followers in ngrams.costs.items():
        state = states[history]
        if history:
            _arc(said, state, NOTHING, NOTHING, weight * ngrams.backoff[history], states[history[1:]])
        tree = Node()
        for word, cost in followers.items():
            if word == END:
                said.set_final(state, weight * cost)
                if history != start:
                    _arc(said, state, NOTHING, NOTHING, weight * cost, states[start])
            elif word in spelled:
                tree.add(spelled[word], word, weight * cost)
        after = {word: states[ngrams.known((*history, word))] for word in followers}
        _grow(said, tree, state, after, places)
    return said


def _grow(said: StdVectorFst, tree: Node, state: int, after: Mapping[str, int], places: Mapping[str, int]) -> None:
    """Add a tree of spellings to the state of its history; `after` is the state that each of its words leads to."""
    waiting = [(tree, state, 0.0)]
    while waiting:
        node, state, paid = waiting.pop()
        for word, cost in node.words:
            _arc(said, state, NOTHING, places[word], cost - paid, after[word])
        for label, following in node.following.items():
            if not following.following and len(following.words) == 1:  # the end of one word: no state of its own
                ((word, cost),) = following.words
                _arc(said, state, label + 1, places[word], cost - paid, after[word])
                continue
            further = said.add_state()
            _arc(said, state, label + 1, NOTHING, following.least - paid, further)
            waiting.append((following, further, following.least))


def _topology(labels: Iterable[int], blank: int) -> StdVectorFst:
    """Frames to labels: repeats are one label, unless a blank stands between them (Graves et al. 2006)."""
    frames = StdVectorFst()
    idle = frames.add_state()
    states = {label: frames.add_state() for label in labels}
    frames.start = idle
    for state in (idle, *states.values()):
        frames.set_final(state, 0.0)
        _arc(frames, state, blank + 1, NOTHING, 0.0, idle)
        for label, following in states.items():
            _arc(frames, state, label + 1, NOTHING if state == following else label + 1, 0.0, following)
    arcsort(frames, "olabel")
    return frames


def _arc(network: Any, state: int, label_in: int, label_out: int, cost: float, following: int) -> None:
    network.add_arc(state, StdArc(label_in, label_out, cost, following))
