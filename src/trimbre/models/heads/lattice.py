"""The lattice of a transducer (Graves 2012, Xu et al. 2023): all ways to align a text with the frames of its audio.

A node (t, u) stands for t frames gone by and u tokens written. From it a blank leads to (t + d, u) and the next token
to (t + d, u + 1), for every duration d that such an arc may have: RNN-T has blanks of one frame and tokens of none, TDT
predicts the duration. An alignment is a path from (0, 0) to (frames, tokens), and its last arc is a blank.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from trimbre.models.recomputing import as_before

AT_ONCE = 2**25
"""Logits of a joint network that are held at once, at most: 128 MiB in float32."""
NEVER = -1e30
"""Log-probability of what cannot be: finite, so that no gradient is not a number."""


@dataclass(frozen=True)
class Arcs:
    """Log-probabilities of the arcs that leave every node, (batch, durations, frames, tokens + 1) each."""

    blanks: Tensor
    labels: Tensor
    """Of the next token; in the last column, after which there is none, they are not used."""
    blank_durations: tuple[int, ...]
    """Frames that a blank leads on by, one or more, in the order of the second dimension."""
    label_durations: tuple[int, ...]

    def log_probability(self, frames: Tensor, tokens: Tensor) -> Tensor:
        """(batch,) log-probability of each text: the sum over all alignments.

        Args:
            frames: (batch,) valid frames of each utterance.
            tokens: (batch,) tokens of each text.
        """
        return self._total(frames, tokens, lambda arriving: arriving.logsumexp(0))

    def best_alignment(self, frames: Tensor, tokens: Tensor) -> Tensor:
        """(batch, frames, tokens + 1) bool: the nodes from which the arcs of the most likely alignment leave.

        An arc is on it if the score of the alignment has a gradient there.
        """
        with torch.enable_grad():
            blanks, labels = (each.detach().float().requires_grad_() for each in (self.blanks, self.labels))
            arcs = Arcs(blanks, labels, self.blank_durations, self.label_durations)
            best = arcs._total(frames, tokens, lambda arriving: arriving.max(0).values)
            one, other = torch.autograd.grad(best.sum(), (blanks, labels), allow_unused=True, materialize_grads=True)
        return one.sum(1) + other.sum(1) > 0

    def _total(self, frames: Tensor, tokens: Tensor, merge: Callable[[Tensor], Tensor]) -> Tensor:
        """(batch,) scores of the ends, where `merge` makes one of the scores (arcs, ...) that arrive at a node.

        Nodes of one antidiagonal t + u = n do not depend on each other: each step computes one, (batch, tokens + 1).
        """
        blanks, labels = _by_antidiagonal(self.blanks), _by_antidiagonal(self.labels)
        batch, _, _, columns = self.blanks.shape
        start = self.blanks.new_full((batch, columns), NEVER)
        start[:, 0] = 0
        reached = [start]
        for n in range(1, blanks.shape[2]):
            arriving = [
                reached[n - d] + blanks[:, place, n - d] for place, d in enumerate(self.blank_durations) if d <= n
            ]
            arriving += [
                pad((reached[n - d - 1] + labels[:, place, n - d - 1])[:, :-1], (1, 0), value=NEVER)
                for place, d in enumerate(self.label_durations)
                if d < n
            ]
            reached.append(merge(torch.stack(arriving)) if arriving else torch.full_like(start, NEVER))
        nodes, rows = torch.stack(reached, 1), torch.arange(batch, device=start.device)
        ending = []
        for place, d in enumerate(self.blank_durations):
            last = (frames - d).clamp_min(0)
            score = nodes[rows, last + tokens, tokens] + self.blanks[rows, place, last, tokens]
            ending.append(torch.where(frames >= d, score, NEVER))
        return merge(torch.stack(ending))


def _by_antidiagonal(scores: Tensor) -> Tensor:
    """(..., frames, columns) -> (..., frames + columns - 1, columns), where [n, u] is what was at [n - u, u]."""
    columns = scores.shape[-1]
    shifted = pad(scores.transpose(-1, -2), (0, columns), value=NEVER).flatten(-2)[..., :-columns]
    return shifted.unflatten(-1, (columns, -1)).transpose(-1, -2)


def arcs_of(
    joint: Callable[[Tensor, Tensor], Tensor],
    audio: Tensor,
    text: Tensor,
    labels: Tensor,
    *,
    vocabulary: int,
    blank: int,
    durations: Sequence[int] = (),
) -> Arcs:
    """The arcs of a batch's lattices, without holding its (batch, frames, tokens + 1, vocabulary) logits.

    They are made for some frames at a time and, for the backward pass, made again.

    Args:
        joint: (text, audio) states, of shapes that broadcast, -> logits of tokens and, for TDT, of durations.
        audio: (batch, frames, dim) states of the encoder.
        text: (batch, tokens + 1, dim) states of the prediction network, the first before any token.
        labels: (batch, tokens) of the texts; any number where there is none.
        vocabulary: labels that there are, `blank` among them.
        durations: what TDT's labels and blanks may last, in frames; none for RNN-T.
    """
    following = pad(labels, (0, 1)).clamp_min(0).long()

    def scores(some: Tensor) -> tuple[Tensor, ...]:
        logits: Tensor = joint(text.unsqueeze(1), some.unsqueeze(2)).float()
        spoken = logits[..., :vocabulary]
        total = spoken.logsumexp(-1)
        index = following.unsqueeze(1).expand(-1, some.shape[1], -1).unsqueeze(-1)
        blanks, tokens = spoken[..., blank] - total, spoken.gather(-1, index).squeeze(-1) - total
        lasting = logits[..., vocabulary:].log_softmax(-1) if durations else logits.new_zeros(1)
        return tuple(each.unsqueeze(-1) + lasting for each in (blanks, tokens))

    frames = max(1, AT_ONCE // max(1, text.shape[0] * text.shape[1] * vocabulary))
    parts = audio.split(frames, dim=1)
    again = torch.is_grad_enabled() and len(parts) > 1
    made = partial(checkpoint, scores, use_reentrant=False, context_fn=as_before) if again else scores
    found: list[Any] = [made(part) for part in parts]
    blanks, tokens = (torch.cat(each, 1).movedim(-1, 1) for each in zip(*found, strict=True))
    if not durations:
        return Arcs(blanks, tokens, (1,), (0,))
    moving = [place for place, d in enumerate(durations) if d > 0]  # a blank leads on
    return Arcs(blanks[:, moving], tokens, tuple(durations[place] for place in moving), tuple(durations))
