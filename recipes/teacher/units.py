"""Have a speaker say what she never said, in halves of phones of her recordings: unit selection.

`python recipes/teacher/units.py --recordings data/en/train --sentences data/sentences.txt --limit 8000 --out units`

A few hundred recordings in one voice are soon known by heart; the same sounds in other sentences are not. After A. Hunt
and A. Black, "Unit selection in a concatenative speech synthesis system using a large speech database", ICASSP 1996: of
all sequences of units the one is spoken whose target costs (a unit touched another phone than it would) and join costs
(two units did not follow each other) sum to the least.
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
PAUSE = SAMPLE_RATE * 15 // 100  # the most of a recording's first and last silence that is used
SHORTEST = SAMPLE_RATE // 100
USUAL = (0.4, 2.5)  # a phone far shorter or longer than the median of its kind is one whose ends were not found
CANDIDATES = 60  # drawn anew for every unit of a sentence, so that a word does not always sound the same
STRANGE = 1.5  # cost of a unit that touched another phone than it would
MIDDLE, EDGE = 1.0, 2.5  # cost of a join within a phone, where it is steady, and of one between two
FADE = SAMPLE_RATE * 6 // 1000
PERIOD = SAMPLE_RATE // 100  # what is compared to join two pitch periods in step
LONGEST = 20  # seconds of a recording: warping takes memory by its square


@dataclass(frozen=True)
class Unit:
    """Half a phone of a recording: from `start` to `end`, in samples."""

    recording: int
    start: int
    end: int

    def precedes(self, other: "Unit") -> bool:
        """Whether `other` goes on where it ends."""
        return (self.recording, self.end) == (other.recording, other.start)


class Voice:
    """What a speaker's recordings (samples,) can say, whose phones are known."""

    def __init__(self, clips: Sequence[np.ndarray], spoken: Sequence[Sequence[Phone]]):
        self.clips = clips
        self.units: list[Unit] = []
        self.kinds: dict[tuple[str, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        """Units by phone and half, and by the phone that they touch: before a first half, after a second."""
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
        self.goes_on = np.array([one.precedes(next) for one, next in pairwise(self.units)] + [False])
        """(units,), of each unit whether the next one goes on where it ends."""

    def say(self, phones: Sequence[str], draw: random.Random) -> np.ndarray:
        """The phones in the voice (samples,), out of units that are drawn.

        Raises:
            KeyError: a phone is in no recording.
        """
        names = [SILENCE, *phones, SILENCE]
        choice, total = self._drawn((phones[0], 0), names[0], draw)
        choices, best = [choice], []
        for n in range(1, 2 * len(phones)):
            place, half = divmod(n, 2)
            before, (choice, cost) = choice, self._drawn((phones[place], half), names[place + 2 * half], draw, choice)
            joined = total[:, None] + self._joins(before, choice, MIDDLE if half else EDGE)
            best.append(joined.argmin(0))
            total = joined.min(0) + cost
            choices.append(choice)
        path = [int(total.argmin())]
        for pointers in reversed(best):
            path.append(int(pointers[path[-1]]))
        return self._spliced([self.units[choice[n]] for choice, n in zip(choices, reversed(path), strict=True)])

    def _drawn(
        self, kind: tuple[str, int], touches: str, draw: random.Random, before: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Units of a kind, those that go on from the units `before` among them, and what each costs by itself."""
        if kind not in self.kinds:
            raise KeyError(kind[0])
        fitting = self.kinds[kind].get(touches, [])
        drawn = draw.sample(fitting, min(CANDIDATES, len(fitting)))
        others = [unit for of, units in self.kinds[kind].items() if of != touches for unit in units]
        drawn += draw.sample(others, min(max(8, CANDIDATES - len(drawn)) // 2, len(others)))
        if before is not None:
            drawn += [unit for unit in before[self.goes_on[before]] + 1 if self.kind_of[unit] == kind]
        choice = np.unique(drawn)
        return choice, STRANGE * ~np.isin(choice, fitting)

    def _joins(self, left: np.ndarray, right: np.ndarray, price: float) -> np.ndarray:
        """Costs (left, right): none where one goes on from the other, or else a price and half the frames' distance."""
        apart = np.sqrt(((self.exits[left][:, None] - self.entries[right]) ** 2).mean(-1))
        together = self.goes_on[left][:, None] & (left[:, None] + 1 == right)
        return np.where(together, 0.0, price + apart / 2)

    def _spliced(self, units: Sequence[Unit]) -> np.ndarray:
        stretches: list[Unit] = []
        for unit in units:
            if stretches and stretches[-1].precedes(unit):
                stretches[-1] = replace(stretches[-1], end=unit.end)
            else:
                stretches.append(unit)
        said = np.zeros(0, np.float32)
        for unit in stretches:
            clip = self.clips[unit.recording]
            start = _in_step(said, clip, unit.start)
            lead = clip[max(0, start - FADE) : start]
            if fade := min(FADE, len(lead), len(said)):
                ramp = np.linspace(0, 1, fade, dtype=np.float32)
                said[-fade:] = said[-fade:] * (1 - ramp) + lead[-fade:] * ramp
            said = np.concatenate([said, clip[start : unit.end]])
        return said


def _usual_lengths(spoken: Sequence[Sequence[Phone]]) -> dict[str, float]:
    lengths: dict[str, list[int]] = defaultdict(list)
    for phone in (phone for phones in spoken for phone in phones):
        lengths[phone.name].append(phone.end - phone.start)
    return {name: float(np.median(of)) for name, of in lengths.items()}


def _used(phones: Sequence[Phone], usual: dict[str, float]) -> Iterator[tuple[Phone, tuple[str, str]]]:
    """The phones of a recording whose ends were found, and the names of those before and after each."""
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


def _in_step(said: np.ndarray, clip: np.ndarray, start: int) -> int:
    """The place within 4 ms of `start` before which `clip` is most like the end of what was said."""
    end = said[-PERIOD:]
    places = [start + shift for shift in range(-64, 65, 4) if start + shift >= PERIOD]
    if len(end) < PERIOD or not places:
        return start
    before = np.stack([clip[place - PERIOD : place] for place in places])
    alike = before @ end / (np.linalg.norm(end) * np.linalg.norm(before, axis=1) + 1e-6)
    return places[int(alike.argmax())]


def voice_of(recordings: Path, *, workers: int) -> Voice:
    """The voice of a speaker's recordings, without the tenth that sound least like flite's reading of them."""
    cuts = [cut for cut in read_cuts(recordings) if cut.duration <= LONGEST]
    clips, texts = [load_cut(cut) for cut in cuts], [normalise(transcript_of(cut) or "", "basic") for cut in cuts]
    with ProcessPoolExecutor(workers) as pool:
        aligned = list(pool.map(phones_of, clips, texts, chunksize=4))
    worst = np.quantile([distance for _, distance in aligned], 0.9)
    kept = [(clip, phones) for clip, (phones, distance) in zip(clips, aligned, strict=True) if distance <= worst]
    return Voice([clip for clip, _ in kept], [phones for _, phones in kept])


def utterances(
    voice: Voice, sentences: Sequence[str], *, name: str, seed: int, workers: int
) -> Iterator[Utterance | str]:
    """The sentences in that voice, or why one could not be said."""
    with ProcessPoolExecutor(workers, initializer=_take, initargs=(voice,)) as pool:
        yield from pool.map(partial(_utterance, name, seed), range(len(sentences)), sentences, chunksize=8)


def _take(voice: Voice) -> None:
    global _voice
    _voice = voice


def _utterance(name: str, seed: int, number: int, text: str) -> Utterance | str:
    draw = random.Random(f"{seed}:{number}")
    try:
        clip = _voice.say(spelled_by_flite(text), draw)
    except KeyError as error:
        return f"{text!r} needs the phone {error}, which is in no recording"
    return Utterance(
        f"{name}-{number:06d}", clip / np.abs(clip).max() * draw.uniform(0.3, 0.95), text, "train", "units"
    )


def main() -> None:
    """Write the corpus and say how long it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recordings", type=Path, required=True, help="cuts of one speaker, with transcripts")
    parser.add_argument(
        "--sentences", type=Path, required=True, help="one a line; those of the training split are said"
    )
    parser.add_argument("--limit", type=int, required=True, help="draw so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    workers = os.cpu_count() or 1
    lines = dict.fromkeys(normalise(line, "basic") for line in asked.sentences.read_text().splitlines())
    known = [line for line in lines if line and split_of(line) == "train"]
    drawn = random.Random(asked.seed).sample(known, min(asked.limit, len(known)))
    voice = voice_of(asked.recordings, workers=workers)
    spoken = utterances(voice, drawn, name=asked.out.name, seed=asked.seed, workers=workers)
    corpus = write_corpus(spoken, asked.out, source=f"units of {asked.recordings}", licence="that of the recordings")
    print(f"{corpus.utterances['train']} sentences, {corpus.hours['train']:.1f} h, {len(corpus.skipped)} left out")


if __name__ == "__main__":
    main()
