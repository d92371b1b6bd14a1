"""Cut single words out of recordings, with nothing before and after them, half of them in a telephone's band.

`python recipes/teacher/words.py --recordings data/an4 data/en/train --limit 6000 --out data/words`

A recogniser that was trained on whole utterances misses a word that begins and ends with its clip. Word boundaries come
from flite's reading of the transcript (`phones.py`); a recording of one word is that word, without its silence.
"""

import argparse
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from phones import Phone, phones_of, spelled_by_flite

from trimbre.data.audio import SAMPLE_RATE, load_cut
from trimbre.data.augment import band_limit
from trimbre.data.corpus import Utterance, write_corpus
from trimbre.data.cuts import read_cuts, transcript_of
from trimbre.data.text import normalise

SILENCE = "pau"
FRAME = SAMPLE_RATE // 200
QUIET = 0.05  # of a word's loudest frame; what is below it at an end is not of the word
MARGIN = SAMPLE_RATE // 25  # most that is left of the silence at an end
SECONDS = (0.2, 0.8)
LONGEST = 12  # seconds of a recording; the memory of warping is quadratic in it
FAR = 0.75  # distance from flite's reading above which an alignment is not to be trusted
BAND = (300.0, 3400.0)

Words = list[tuple[str, np.ndarray]]
"""Words with their clips, (samples,) each."""


def words_of(clip: np.ndarray, text: str) -> Words:
    """The words of a recording (samples,), each without the silence around it; none where they cannot be aligned."""
    said = text.split()
    if len(said) == 1:
        return [(said[0], clip)]
    phones, distance = phones_of(clip, text)
    spans = spans_of([_spelled(word) for word in said], phones)
    if spans is None or distance > FAR:
        return []
    return [(word, clip[start:end]) for word, (start, end) in zip(said, spans, strict=True)]


def spans_of(spelled: Sequence[Sequence[str]], phones: Sequence[Phone]) -> list[tuple[int, int]] | None:
    """Start and end in samples of every word, by the number of its phones; None where these do not add up."""
    voiced = [phone for phone in phones if phone.name != SILENCE]
    if sum(map(len, spelled)) != len(voiced) or not all(spelled):
        return None
    spans, first = [], 0
    for word in spelled:
        spans.append((voiced[first].start, voiced[first + len(word) - 1].end))
        first += len(word)
    return spans


def tight(clip: np.ndarray, draw: random.Random) -> np.ndarray:
    """A clip from the first frame of its word to the last, with up to 40 ms of what is around them."""
    frames = clip[: len(clip) // FRAME * FRAME].reshape(-1, FRAME)
    level = np.sqrt(np.square(frames).mean(1))
    loud = np.flatnonzero(level > QUIET * level.max(initial=0.0))
    if not len(loud):
        return clip[:0]
    start = loud[0] * FRAME - draw.randrange(MARGIN)
    end = (loud[-1] + 1) * FRAME + draw.randrange(MARGIN)
    return clip[max(0, start) : end]


def _spelled(word: str) -> list[str]:
    return [phone for phone in spelled_by_flite(word) if phone != SILENCE]


def _cut(job: tuple[Any, int]) -> list[Utterance | str]:
    cut, seed = job
    draw = random.Random(f"{seed}:{cut.id}")
    found: list[Utterance | str] = []
    text = normalise(transcript_of(cut) or "", "basic", language="en")
    for number, (word, clip) in enumerate(words_of(load_cut(cut), text)):
        clip = tight(clip, draw)
        if not SECONDS[0] <= len(clip) / SAMPLE_RATE <= SECONDS[1]:
            continue
        if draw.random() < 0.5:
            clip = band_limit(clip, *BAND)
        clip = clip / max(np.abs(clip).max(), 1e-6) * draw.uniform(0.3, 0.95)
        found.append(Utterance(f"{cut.id}-{number:02d}", clip, word, None, cut.supervisions[0].speaker, "en"))
    return found


def utterances(recordings: Sequence[Path], *, seed: int, workers: int) -> Iterator[Utterance | str]:
    """The words of all recordings, in their order."""
    cuts = [cut for path in recordings for cut in read_cuts(path, allow_outside=True)]
    jobs = [(cut, seed) for cut in cuts if cut.duration <= LONGEST and transcript_of(cut)]
    with ProcessPoolExecutor(workers) as pool:
        for found in pool.map(_cut, jobs, chunksize=8):
            yield from found


def main() -> None:
    """Write the corpus and print its length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recordings", type=Path, nargs="+", required=True, help="cuts with transcripts")
    parser.add_argument("--limit", type=int, required=True, help="number of words, drawn from all that were found")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    found = list(utterances(asked.recordings, seed=asked.seed, workers=os.cpu_count() or 1))
    drawn = random.Random(asked.seed).sample(found, min(asked.limit, len(found)))
    source = f"single words of {' '.join(map(str, asked.recordings))}"
    corpus = write_corpus(drawn, asked.out, source=source, licence="that of the recordings")
    print(f"{corpus.utterances[next(iter(corpus.utterances))]} words of {len(found)}")


if __name__ == "__main__":
    main()
