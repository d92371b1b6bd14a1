"""CTC topology, lexicon and n-grams composed into one weighted transducer (Mohri et al. 2002; Miao et al. 2015).

Input labels are the model's labels plus one, output labels the sorted words' positions plus one; 0 is epsilon on both
sides. Costs are negative natural logarithms.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kaldifst import StdArc, StdVectorFst, arcsort, compose

from trimbre.inference.graph.ngrams import END, START, NGrams

EPSILON = 0


@dataclass
class Node:
    """A node of the lexicon's prefix tree: words that begin with the same labels."""

    following: dict[int, "Node"] = field(default_factory=dict)
    words: list[tuple[str, float]] = field(default_factory=list)
    """Words whose spelling ends here, and their costs."""
    least: float = math.inf
    """Cost of the cheapest word below: paid as early as it is certain, so that the search prunes early."""

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
    """The decoding graph: accepts frame labels of one or more sentences in sequence.

    Args:
        spellings: labels of every word of the vocabulary; other words of the n-grams are left out.
        weight: factor of the n-grams' costs. With 0 every sequence of words is equally likely.
        blank: the blank label.
        space: the label between words, for vocabularies with one; it also follows the last word and may be repeated
            between words.
    """
    ends = () if space is None else (space,)
    spelled = {word: (*labels, *ends) for word, labels in spellings.items()}
    sentences = _sentences(ngrams, spelled, weight)
    if space is not None:
        for state in range(len(ngrams.costs)):
            _arc(sentences, state, space + 1, EPSILON, 0.0, state)
    arcsort(sentences, "ilabel")
    labels = sorted({label for each in spelled.values() for label in each})
    return compose(_topology(labels, blank), sentences)


def _sentences(ngrams: NGrams, spelled: Mapping[str, Sequence[int]], weight: float) -> StdVectorFst:
    """Labels to words: first a state for each history, then a prefix tree of spellings between histories."""
    start = ngrams.known((START,))
    said = StdVectorFst()
    states = {history: said.add_state() for history in ngrams.costs}
    places = {word: place for place, word in enumerate(sorted(spelled), start=1)}
    said.start = states[start]
    for history, followers in ngrams.costs.items():
        state = states[history]
        if history:
            _arc(said, state, EPSILON, EPSILON, weight * ngrams.backoff[history], states[history[1:]])
        tree = Node()
        for word, cost in followers.items():
            if word == END:
                said.set_final(state, weight * cost)
                if history != start:
                    _arc(said, state, EPSILON, EPSILON, weight * cost, states[start])
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
            _arc(said, state, EPSILON, places[word], cost - paid, after[word])
        for label, following in node.following.items():
            if not following.following and len(following.words) == 1:  # the end of a single word needs no state
                ((word, cost),) = following.words
                _arc(said, state, label + 1, places[word], cost - paid, after[word])
                continue
            further = said.add_state()
            _arc(said, state, label + 1, EPSILON, following.least - paid, further)
            waiting.append((following, further, following.least))


def _topology(labels: Iterable[int], blank: int) -> StdVectorFst:
    """Frames to labels: repeats collapse into one label unless a blank separates them (Graves et al. 2006)."""
    frames = StdVectorFst()
    idle = frames.add_state()
    states = {label: frames.add_state() for label in labels}
    frames.start = idle
    for state in (idle, *states.values()):
        frames.set_final(state, 0.0)
        _arc(frames, state, blank + 1, EPSILON, 0.0, idle)
        for label, following in states.items():
            _arc(frames, state, label + 1, EPSILON if state == following else label + 1, 0.0, following)
    arcsort(frames, "olabel")
    return frames


def _arc(network: Any, state: int, label_in: int, label_out: int, cost: float, following: int) -> None:
    network.add_arc(state, StdArc(label_in, label_out, cost, following))
