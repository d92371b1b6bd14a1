"""Full windows for models that hear a window of one length (Whisper: 30 s), however short the utterances are.

Such a model learns little from windows of which most is silence, and one that is shorter breaks it. Several utterances
are joined with short silences, as many as fit, and their texts with them. Now and then one is alone in its window, as
it is where the model is used: a pruned model that never met the silence after a short utterance babbles there.
"""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
from lhotse import CutSet

from trimbre.data.cuts import language_of, transcript_of
from trimbre.errors import UserError
from trimbre.models.inputs import SAMPLE_RATE

SILENCE = 0.5
"""Seconds between two utterances of a window."""
OPEN = 8
"""Windows that an utterance may still go into, the fullest that has room: the others are closed one by one."""
ALONE = 3
"""One window in so many holds a single utterance."""
SHUFFLED = 10_000
"""Utterances that one is drawn from at a time, where a manifest is too long to hold."""


def windows_in(seconds: float, window: float) -> int:
    """Windows of a batch that is to hold so many seconds: whole ones, and at least one."""
    return max(1, int(seconds / window))


def pieces(cuts: Iterable[Any], *, window: float, transcripts: bool) -> Iterator[Any]:
    """The cuts that fit into a `window` of seconds; longer ones in equal pieces, which a teacher then writes down.

    Args:
        transcripts: leave out what is longer and has a transcript, for nobody says which words are in which piece.
    """
    for cut in cuts:
        if cut.duration <= window:
            yield cut
        elif not (transcripts and transcript_of(cut) is not None):
            number = math.ceil(cut.duration / window)
            for index in range(number):
                piece = cut.truncate(offset=index * cut.duration / number, duration=cut.duration / number)
                yield piece.with_id(f"{cut.id}-{index}")


def packed(cuts: Iterable[Any], *, window: float) -> Iterator[list[Any]]:
    """Gather cuts, none longer than a `window` of seconds, into windows of one language each, as full as they get.

    Those with a transcript and those without are kept apart: what one utterance lacks, the teacher would have to write
    for the whole window. Every `ALONE`th window holds one cut and silence.
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

    Epochs follow each other without a seam: what waits at the end of one is filled up by the next. Every utterance
    comes once an epoch, in windows that are drawn anew.

    Raises:
        UserError: there is no utterance that fits.
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
            raise UserError(
                f"the training data holds no utterance of at most {window:g} s, the window that the model hears: cut "
                "longer ones at their pauses, or give --text teacher"
            )


def joined(clips: Sequence[np.ndarray], recorded: Sequence[np.ndarray], *, window: int) -> np.ndarray:
    """One clip, at most `window` samples long, of several, (samples,) each, with silences between them.

    Args:
        clips: as they were augmented, which may have made them longer.
        recorded: as they were before, and fitted: those that grew most are taken instead until all fit.
    """
    taken = list(clips)
    silence = np.zeros(int(SILENCE * SAMPLE_RATE), dtype=np.float32)
    room = window - (len(clips) - 1) * len(silence)
    for position in sorted(range(len(clips)), key=lambda n: len(recorded[n]) - len(clips[n])):
        if sum(map(len, taken)) > room:
            taken[position] = recorded[position]
    parts = [part for clip in taken for part in (silence, clip)][1:]
    return np.concatenate(parts)[:window]
