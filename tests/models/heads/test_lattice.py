"""The lattice of a transducer, against sums over all alignments one by one and against transformers' own loss."""

import itertools
import math
from functools import partial

import pytest
import torch
from transformers.loss.loss_tdt import tdt_loss

from trimbre.models.heads import lattice
from trimbre.models.heads.lattice import Arcs, arcs_of

BLANK, VOCABULARY = 4, 5
TDT = (0, 1, 2, 4)
KINDS = {"RNN-T": (), "TDT": TDT, "TDT that always moves": (1, 2)}


def alignments(frames, tokens, blanks, labels):
    """All paths from (0, 0) to (frames, tokens) whose last arc is a blank, as ((t, u, blank?, place), ...)."""

    def onward(t, u):
        if (t, u) == (frames, tokens):
            yield ()
        for place, d in enumerate(blanks):
            if t < frames and t + d <= frames and (t + d < frames or u == tokens):
                yield from (((t, u, True, place), *rest) for rest in onward(t + d, u))
        for place, d in enumerate(labels):
            if t + d < frames and u < tokens:
                yield from (((t, u, False, place), *rest) for rest in onward(t + d, u + 1))

    return [path for path in onward(0, 0) if path]


def scored(arcs, row, path):
    return sum(float((arcs.blanks if blank else arcs.labels)[row, place, t, u]) for t, u, blank, place in path)


def random_arcs(durations, *, frames=5, tokens=3, batch=2):
    """Lattices of a joint network that is a sum, in float64."""
    torch.manual_seed(1)
    width = VOCABULARY + len(durations)
    audio, text = torch.randn(batch, frames, width).double(), torch.randn(batch, tokens + 1, width).double()
    labels = torch.tensor([[0, 2, 2], [3, 1, -100]])[:batch, :tokens]
    made = partial(arcs_of, lambda text, audio: torch.sin(3 * (text + audio)), vocabulary=VOCABULARY, blank=BLANK)
    return partial(made, labels=labels, durations=durations), audio, text


LENGTHS = torch.tensor([5, 3]), torch.tensor([3, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_sum_over_all_alignments_and_the_best_is_one_of_them(kind):
    make, audio, text = random_arcs(KINDS[kind])
    arcs = make(audio, text)
    found, best = arcs.log_probability(*LENGTHS), arcs.best_alignment(*LENGTHS)
    for row, (frames, tokens) in enumerate(zip(*(each.tolist() for each in LENGTHS), strict=True)):
        paths = alignments(frames, tokens, arcs.blank_durations, arcs.label_durations)
        scores = [scored(arcs, row, path) for path in paths]
        assert len(paths) > 1 or kind == "TDT that always moves"
        assert float(found[row]) == pytest.approx(math.log(sum(map(math.exp, scores))), rel=1e-5)
        nodes = sorted((t, u) for t, u, *_ in paths[scores.index(max(scores))])
        assert best[row].nonzero().tolist() == [list(node) for node in nodes]


def test_rnnt_of_even_odds_counts_its_alignments():
    """Each of C(frames + tokens - 1, tokens) alignments has frames + tokens arcs of one probability."""
    frames, tokens = 40, 12
    even = torch.full((1, 1, frames, tokens + 1), math.log(0.5))
    found = Arcs(even, even, (1,), (0,)).log_probability(torch.tensor([frames]), torch.tensor([tokens]))
    expected = math.log(math.comb(frames + tokens - 1, tokens)) + (frames + tokens) * math.log(0.5)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_loss(kind):
    make, audio, text = random_arcs(KINDS[kind])

    def total(scores, labels):
        arcs = make(audio, text)
        again = Arcs(scores, labels, arcs.blank_durations, arcs.label_durations)
        return again.log_probability(*LENGTHS)

    arcs = make(audio, text)
    given = (arcs.blanks.double().requires_grad_(), arcs.labels.double().requires_grad_())
    assert torch.autograd.gradcheck(total, given)


def test_the_loss_of_tdt_is_transformers_own():
    torch.manual_seed(0)
    logits, durations = torch.randn(3, 9, 5, 30), (0, 1, 2, 3, 4)
    labels, frames, tokens = torch.randint(0, 24, (3, 4)), torch.tensor([9, 7, 4]), torch.tensor([4, 2, 0])
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    # A joint network that picks from a table: audio states are frames, text states columns.
    picked = lambda text, audio: ours.expand(3, -1, -1, -1)  # noqa: E731
    states = torch.zeros(3, 9, 1), torch.zeros(3, 5, 1)
    arcs = arcs_of(picked, *states, labels, vocabulary=25, blank=24, durations=durations)
    found = -arcs.log_probability(frames, tokens)
    expected = tdt_loss(
        theirs[..., :25], theirs[..., 25:], labels, frames, tokens, 24, list(durations), reduction="none"
    )
    assert torch.allclose(found, expected, rtol=1e-5)
    for loss in (found, expected):
        loss.sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)
    assert theirs.grad[1, 7:].abs().max() == 0


def test_logits_that_are_made_in_parts_give_the_same_loss_and_gradients(monkeypatch):
    found = []
    for at_once in (lattice.AT_ONCE, 2 * 2 * 4 * VOCABULARY):  # all five frames, and two of two rows and four columns
        monkeypatch.setattr(lattice, "AT_ONCE", at_once)
        make, audio, text = random_arcs(TDT)
        states = audio.requires_grad_(), text.requires_grad_()
        loss = make(*states).log_probability(*LENGTHS).sum()
        found.append((loss, *torch.autograd.grad(loss, states)))
    assert all(torch.allclose(one, other) for one, other in zip(*found, strict=True))


def test_a_text_of_nothing_and_one_that_cannot_be_have_finite_losses():
    make, audio, text = random_arcs((1, 2), frames=2)
    lengths = torch.tensor([2, 1]), torch.tensor([3, 0])  # three tokens in two frames, and none in one
    audio.requires_grad_()
    found = make(audio, text).log_probability(*lengths)
    assert torch.isfinite(found).all()
    gradient = torch.autograd.grad(found[1], audio)[0]
    assert torch.isfinite(gradient).all()
    assert gradient[1, 0].abs().max() > 0


def test_alignments_are_listed_rightly():
    """C(frames + tokens - 1, tokens) of RNN-T."""
    for frames, tokens in itertools.product((1, 2, 4), (0, 1, 3)):
        assert len(alignments(frames, tokens, (1,), (0,))) == math.comb(frames + tokens - 1, tokens)
