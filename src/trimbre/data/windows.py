"""Packing of utterances into windows, for models whose input has one length (Whisper: 30 s).

Such a model learns little from windows that are mostly silence. As many utterances as fit are joined with short
silences, and so are their transcripts. One window in a few holds a single utterance: a pruned model that was not
trained on the silence after a short utterance writes text there.
"""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
from lhotse import CutSet

from trimbre.data.audio import SAMPLE_RATE
from trimbre.data.cuts import transcript_of
from trimbre.data.language import language_of
from trimbre.errors import OptionError

SILENCE = 0.5
"""Seconds between two utterances of a window."""
OPEN = 8
"""Windows that are open at a time; an utterance goes into the fullest that has room."""
ALONE = 3
"""One window in so many holds a single utterance."""
SHUFFLED = 10_000
"""Utterances in the buffer that lazily read cuts are shuffled by."""


def windows_in(seconds: float, window: float) -> int:
    """Number of whole windows in a batch of so many `seconds`, at least one."""
    return max(1, int(seconds / window))


def pieces(cuts: Iterable[Any], *, window: float, transcripts: bool) -> Iterator[Any]:
    """The cuts that fit into a `window` of seconds, and longer ones in equal pieces, where the teacher alone teaches.

    Args:
        transcripts: leave out longer cuts with a transcript, whose words cannot be assigned to the pieces.
    """
    for cut in cuts:
        if cut.duration <= window:
            yield cut
        elif not (transcripts and transcript_of(cut) is not None):
            number = math.ceil(cut.duration / window)
            for index in range(number):
                piece = cut.truncate(offset=index * cut.duration / number, duration=cut.duration / number)
                yield piece.with_id(f"{cut.id}-{index}")


class Pieces:
    """`pieces` of cuts that are read anew at every pass, for models that take audio of any length."""

    def __init__(self, cuts: CutSet, longest: float):
        self.cuts, self.longest = cuts, longest

    def __iter__(self) -> Iterator[Any]:
        return pieces(self.cuts, window=self.longest, transcripts=True)


def packed(cuts: Iterable[Any], *, window: float) -> Iterator[list[Any]]:
    """Pack cuts, none longer than a `window` of seconds, into windows of one language each.

    Cuts with and without a transcript are kept apart: for one that lacks it, the teacher would have to write the text
    of the whole window. Every `ALONE`th window holds one cut and silence.
    """
    waiting: dict[tuple[str | None, bool], list[tuple[float, list[Any]]]] = {}
    full = 0
    for cut in cuts:
        if full == ALONE - 1:
            full = 0
            yield [cut]
            continue
        begun = waiting.setdefault((language_of(cut), transcript_of(cut) is None), [])
        lengths = [length for length, _ in begun]
        fitting = [n for n, length in enumerate(lengths) if length + SILENCE + cut.duration <= window]
        if fitting:
            length, inside = begun.pop(max(fitting, key=lengths.__getitem__))
            begun.append((length + SILENCE + cut.duration, [*inside, cut]))
        else:
            begun.append((cut.duration, [cut]))
            if len(begun) > OPEN:
                full += 1
                yield begun.pop(max(range(len(begun)), key=lambda n: begun[n][0]))[1]


def window_batches(
    cuts: CutSet, *, window: float, windows: int, transcripts: bool, seed: int, rank: int, world: int
) -> Iterator[Sequence[Sequence[Any]]]:
    """Endless batches of so many `windows` for one of several processes; no audio is read.

    Every utterance comes once per epoch, in windows that are packed anew. Windows that are open at the end of an epoch
    are filled by the next.

    Raises:
        OptionError: there is no utterance that fits.
    """
    batch: list[Sequence[Any]] = []
    for number, full in enumerate(packed(_endless(cuts, window, transcripts, seed), window=window)):
        if number // windows % world == rank:
            batch.append(full)
        if len(batch) == windows:
            yield batch
            batch = []


def _endless(cuts: CutSet, window: float, transcripts: bool, seed: int) -> Iterator[Any]:
    for epoch in count():
        found = False
        mixed = cuts.shuffle(random.Random(f"{seed} {epoch}"), buffer_size=SHUFFLED)
        for piece in pieces(mixed, window=window, transcripts=transcripts):
            found = True
            yield piece
        if not found:
            raise OptionError(
                "text",
                "transcripts",
                f"no utterance of the training data is at most {window:g} s long, the window of the model: cut longer "
                "ones at their pauses, or let the teacher write the text",
                owner="DistillationConfig",
            )


def joined(
    clips: Sequence[np.ndarray], recorded: Sequence[np.ndarray], *, window: int, rate: int = SAMPLE_RATE
) -> np.ndarray:
    """Join clips, (samples,) each, with silences between them, into one of at most `window` samples.

    Args:
        clips: the augmented clips, some of which may have become longer.
        recorded: the same before augmentation, which fit; they replace those that grew most until all fit.
        rate: sampling rate of them all, in Hz.
    """
    taken = list(clips)
    silence = np.zeros(int(SILENCE * rate), dtype=np.float32)
    room = window - (len(clips) - 1) * len(silence)
    for position in sorted(range(len(clips)), key=lambda n: len(recorded[n]) - len(clips[n])):
        if sum(map(len, taken)) > room:
            taken[position] = recorded[position]
    parts = [part for clip in taken for part in (silence, clip)][1:]
    return np.concatenate(parts)[:window]
