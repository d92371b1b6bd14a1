"""Unit-selection synthesis: new sentences in the voice of recorded prompts, from half-phones of the recordings.

`python recipes/teacher/units.py --recordings data/en/train --sentences data/sentences.txt --limit 8000 --out units`

A model memorises a few hundred recordings of one voice; the same sounds in other sentences prevent that. After A. Hunt
and A. Black, "Unit selection in a concatenative speech synthesis system using a large speech database", ICASSP 1996:
the chosen sequence of units has the least sum of target costs (the unit had another neighbouring phone) and join costs
(two units were not adjacent).
"""

import argparse
import os
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from phones import HOP, Phone, log_mel, phones_of, spelled_by_flite

from trimbre.data.audio import SAMPLE_RATE, load_cut
from trimbre.data.corpus import Utterance, write_corpus
from trimbre.data.cuts import read_cuts, transcript_of
from trimbre.data.splits import split_of
from trimbre.data.text import normalise

SILENCE = "pau"
PAUSE = SAMPLE_RATE * 15 // 100  # longest part of a recording's first and last silence that is used
SHORTEST = SAMPLE_RATE // 100
USUAL = (0.4, 2.5)  # a duration outside these multiples of the phone's median means a failed alignment
CANDIDATES = 60  # sampled for every unit of a sentence, so that a word varies
STRANGE = 1.5  # target cost of a unit with another neighbouring phone
MIDDLE, EDGE = 1.0, 2.5  # cost of a join within a phone, which is steady there, and between two phones
FADE = SAMPLE_RATE * 6 // 1000
PERIOD = SAMPLE_RATE // 100  # samples that are compared to join pitch periods in phase
LONGEST = 20  # seconds of a recording; the memory of warping is quadratic in it


@dataclass(frozen=True)
class Unit:
    """A half-phone of a recording, from `start` to `end` in samples."""

    recording: int
    start: int
    end: int

    def precedes(self, other: "Unit") -> bool:
        """Whether `other` starts where it ends."""
        return (self.recording, self.end) == (other.recording, other.start)


class Voice:
    """The half-phones of a speaker's recordings, each (samples,), with aligned phones."""

    def __init__(self, clips: Sequence[np.ndarray], spoken: Sequence[Sequence[Phone]]):
        self.clips = clips
        self.units: list[Unit] = []
        self.kinds: dict[tuple[str, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        """Units by phone and half, and by their neighbouring phone: before a first half, after a second."""
        self.kind_of: list[tuple[str, int]] = []
        entries, exits = [], []
        usual = _usual_lengths(spoken)
        for recording, phones in enumerate(spoken):
            mel = log_mel(clips[recording])
            for phone, touches in _used(phones, usual):
                middle = (phone.start + phone.end) // 2
                for half, (start, end) in enumerate(((phone.start, middle), (middle, phone.end))):
                    self.kinds[phone.name, half][touches[half]].append(len(self.units))
                    self.units.append(Unit(recording, start, end))
                    self.kind_of.append((phone.name, half))
                    entries.append(mel[min(len(mel) - 1, start // HOP)])
                    exits.append(mel[min(len(mel) - 1, end // HOP)])
        self.entries, self.exits = np.stack(entries), np.stack(exits)
        """The frames (units, bands) at their starts and ends."""
        self.has_next = np.array([one.precedes(next) for one, next in pairwise(self.units)] + [False])
        """(units,) bool: the next unit starts where this one ends."""

    def say(self, phones: Sequence[str], rng: random.Random) -> np.ndarray:
        """Synthesise phones, (samples,), from sampled units.

        Raises:
            KeyError: a phone is in no recording.
        """
        names = [SILENCE, *phones, SILENCE]
        choice, total = self._candidates((phones[0], 0), names[0], rng)
        choices, best = [choice], []
        for n in range(1, 2 * len(phones)):
            place, half = divmod(n, 2)
            kind, touches = (phones[place], half), names[place + 2 * half]
            before, (choice, cost) = choice, self._candidates(kind, touches, rng, choice)
            joined = total[:, None] + self._joins(before, choice, MIDDLE if half else EDGE)
            best.append(joined.argmin(0))
            total = joined.min(0) + cost
            choices.append(choice)
        path = [int(total.argmin())]
        for pointers in reversed(best):
            path.append(int(pointers[path[-1]]))
        return self._spliced([self.units[choice[n]] for choice, n in zip(choices, reversed(path), strict=True)])

    def _candidates(
        self, kind: tuple[str, int], touches: str, rng: random.Random, before: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Candidates of a kind, with those that follow the units `before`, and their target costs."""
        if kind not in self.kinds:
            raise KeyError(kind[0])
        fitting = self.kinds[kind].get(touches, [])
        sampled = rng.sample(fitting, min(CANDIDATES, len(fitting)))
        others = [unit for of, units in self.kinds[kind].items() if of != touches for unit in units]
        sampled += rng.sample(others, min(max(8, CANDIDATES - len(sampled)) // 2, len(others)))
        if before is not None:
            sampled += [unit for unit in before[self.has_next[before]] + 1 if self.kind_of[unit] == kind]
        choice = np.unique(sampled)
        return choice, STRANGE * ~np.isin(choice, fitting)

    def _joins(self, left: np.ndarray, right: np.ndarray, price: float) -> np.ndarray:
        """Join costs (left, right): 0 for adjacent units, otherwise a price plus half the distance of their frames."""
        apart = np.sqrt(((self.exits[left][:, None] - self.entries[right]) ** 2).mean(-1))
        together = self.has_next[left][:, None] & (left[:, None] + 1 == right)
        return np.where(together, 0.0, price + apart / 2)

    def _spliced(self, units: Sequence[Unit]) -> np.ndarray:
        stretches: list[Unit] = []
        for unit in units:
            if stretches and stretches[-1].precedes(unit):
                stretches[-1] = replace(stretches[-1], end=unit.end)
            else:
                stretches.append(unit)
        signal = np.zeros(0, np.float32)
        for unit in stretches:
            clip = self.clips[unit.recording]
            start = _in_phase(signal, clip, unit.start)
            lead = clip[max(0, start - FADE) : start]
            if fade := min(FADE, len(lead), len(signal)):
                ramp = np.linspace(0, 1, fade, dtype=np.float32)
                signal[-fade:] = signal[-fade:] * (1 - ramp) + lead[-fade:] * ramp
            signal = np.concatenate([signal, clip[start : unit.end]])
        return signal


def _usual_lengths(spoken: Sequence[Sequence[Phone]]) -> dict[str, float]:
    lengths: dict[str, list[int]] = defaultdict(list)
    for phone in (phone for phones in spoken for phone in phones):
        lengths[phone.name].append(phone.end - phone.start)
    return {name: float(np.median(of)) for name, of in lengths.items()}


def _used(phones: Sequence[Phone], usual: dict[str, float]) -> Iterator[tuple[Phone, tuple[str, str]]]:
    """The phones of a recording that were aligned, each with the names of its neighbours."""
    names = [SILENCE, *(phone.name for phone in phones), SILENCE]
    for place, phone in enumerate(phones):
        length = phone.end - phone.start
        if phone.name == SILENCE:
            start = phone.end - PAUSE if place == 0 else phone.start
            phone = Phone(SILENCE, max(phone.start, start), min(phone.end, max(phone.start, start) + PAUSE))
        elif not USUAL[0] < length / min(usual[phone.name], 2 * PAUSE) < USUAL[1]:
            continue
        if phone.end - phone.start >= SHORTEST:
            yield phone, (names[place], names[place + 2])


def _in_phase(signal: np.ndarray, clip: np.ndarray, start: int) -> int:
    """The position within 4 ms of `start` at which `clip` correlates best with the end of the signal so far."""
    end = signal[-PERIOD:]
    places = [start + shift for shift in range(-64, 65, 4) if start + shift >= PERIOD]
    if len(end) < PERIOD or not places:
        return start
    before = np.stack([clip[place - PERIOD : place] for place in places])
    alike = before @ end / (np.linalg.norm(end) * np.linalg.norm(before, axis=1) + 1e-6)
    return places[int(alike.argmax())]


def voice_of(recordings: Path, *, workers: int) -> Voice:
    """The voice of a speaker's recordings, without the tenth whose alignment has the highest cost."""
    cuts = [cut for cut in read_cuts(recordings) if cut.duration <= LONGEST]
    clips, texts = (
        [load_cut(cut) for cut in cuts],
        [normalise(transcript_of(cut) or "", "basic", language="en") for cut in cuts],
    )
    with ProcessPoolExecutor(workers) as pool:
        aligned = list(pool.map(phones_of, clips, texts, chunksize=4))
    worst = np.quantile([distance for _, distance in aligned], 0.9)
    kept = [(clip, phones) for clip, (phones, distance) in zip(clips, aligned, strict=True) if distance <= worst]
    return Voice([clip for clip, _ in kept], [phones for _, phones in kept])


def utterances(
    voice: Voice, sentences: Sequence[str], *, name: str, seed: int, workers: int
) -> Iterator[Utterance | str]:
    """The sentences in that voice; a message in place of a sentence that cannot be synthesised."""
    with ProcessPoolExecutor(workers, initializer=_take, initargs=(voice,)) as pool:
        yield from pool.map(partial(_utterance, name, seed), range(len(sentences)), sentences, chunksize=8)


def _take(voice: Voice) -> None:
    global _voice
    _voice = voice


def _utterance(name: str, seed: int, number: int, text: str) -> Utterance | str:
    rng = random.Random(f"{seed}:{number}")
    try:
        clip = _voice.say(spelled_by_flite(text), rng)
    except KeyError as error:
        return f"{text!r} needs the phone {error}, which is in no recording"
    return Utterance(
        f"{name}-{number:06d}", clip / np.abs(clip).max() * rng.uniform(0.3, 0.95), text, "train", "units", "en"
    )


def main() -> None:
    """Write the corpus and print its length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recordings", type=Path, required=True, help="cuts of one speaker, with transcripts")
    parser.add_argument(
        "--sentences", type=Path, required=True, help="one a line; those of the training split are used"
    )
    parser.add_argument("--limit", type=int, required=True, help="number of sentences to sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    workers = os.cpu_count() or 1
    lines = dict.fromkeys(normalise(line, "basic", language="en") for line in asked.sentences.read_text().splitlines())
    known = [line for line in lines if line and split_of(line, language="en") == "train"]
    drawn = random.Random(asked.seed).sample(known, min(asked.limit, len(known)))
    voice = voice_of(asked.recordings, workers=workers)
    spoken = utterances(voice, drawn, name=asked.out.name, seed=asked.seed, workers=workers)
    corpus = write_corpus(spoken, asked.out, source=f"units of {asked.recordings}", licence="that of the recordings")
    print(f"{corpus.utterances['train']} sentences, {corpus.hours['train']:.1f} h, {len(corpus.skipped)} left out")


if __name__ == "__main__":
    main()
