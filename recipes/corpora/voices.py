"""A corpus of synthetic speech: every line of a text file, spoken by a random voice at a random rate and pitch.

    python recipes/corpora/voices.py --sentences texts.txt --out data/voices --fetch
    python recipes/corpora/voices.py --sentences texts.txt --out data/voices \\
        --voices "flite:*" "espeak-ng:en-gb*" --except flite:rms

Voices are named ENGINE:NAME: espeak-ng (many speakers), flite, festival, pico (`pip install "trimbre[pico]"`) and piper
(`pip install "trimbre[voices]"`), as far as they are installed. `--fetch` brings espeak-ng and flite from Debian's
packages, without root. Every engine speaks once before the corpus is begun. If one cannot speak, or if more than 1 % of
the utterances fail, the exit code is 2 and nothing is written.
"""

import os
import random
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from engines import Voice, fetch_engines, installed_voices, known_voices
from script import checked, parser, report

from trimbre.data.audio import resample
from trimbre.data.corpus import Corpus, Utterance, write_corpus
from trimbre.data.splits import SPLITS, sentences_in
from trimbre.errors import UserError

SHARES = {"espeak-ng": 4.0, "flite": 4.0, "pico": 2.0, "piper": 1.0, "festival": 1.0}
"""Relative share of the sentences that each engine speaks; its voices divide it evenly."""
TRIAL = "one two three"


@dataclass(frozen=True)
class _Job:
    id: str
    text: str
    split: str | None
    voice: Voice
    seed: str
    tract: float


def choose(patterns: Sequence[str], excluded: Sequence[str] = ()) -> list[Voice]:
    """The installed voices that match one of `patterns` and none of `excluded` (such as `flite:*`, `*+f?`).

    Raises:
        UserError: one of `patterns` matches no installed voice, one of `excluded` none that is known (a held-out
            voice that is misspelled would be let in), or no voice is left.
    """
    voices = installed_voices()
    if not voices:
        raise UserError(
            "no synthetic voice is installed: install espeak-ng or flite, give --fetch, or pip install trimbre[voices]"
        )
    for pattern in patterns:
        if not any(fnmatch(str(voice), pattern) for voice in voices):
            have = ", ".join(sorted({voice.engine for voice in voices}))
            raise UserError(f"--voices {pattern}: no such voice is installed (engines found: {have})")
    for pattern in excluded:
        if not any(fnmatch(str(voice), pattern) for voice in {*voices, *known_voices()}):
            raise UserError(f"--except {pattern}: there is no such voice, check its name")
    chosen = [v for v in voices if any(fnmatch(str(v), pattern) for pattern in patterns)]
    chosen = [v for v in chosen if not any(fnmatch(str(v), pattern) for pattern in excluded)]
    if not chosen:
        raise UserError(f"--except {' '.join(excluded)}: no voice is left to speak")
    return chosen


def voices(
    *,
    sentences: Path,
    out: Path,
    patterns: Sequence[str] = ("*",),
    excluded: Sequence[str] = (),
    splits: Sequence[str] = SPLITS,
    whole: bool = False,
    limit: int | None = None,
    tract: float = 0.0,
    seed: int = 0,
    workers: int | None = None,
) -> Corpus:
    """Have every line of a text file spoken by a random voice, and write the corpus to `out`.

    Args:
        splits: which splits of the sentences to speak; the split is decided by the text alone.
        whole: write one set that is not split, for texts that are never trained on.
        limit: speak only so many sentences, the first ones of these splits.
        tract: lengthen or shorten the vocal tract by up to this share, at the same tempo: formants and pitch move
            together, so that few speakers become many. From 0, which leaves the voices as they are, to below 1.
        workers: processes that speak at once; as many as there are cores by default.

    Raises:
        UserError: the file cannot be read, an option makes no sense, no voice matches, an engine cannot speak, or
            more than 1 % of the utterances fail.
    """
    for name, value in {"limit": limit, "workers": workers}.items():
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: give 1 or more")
    if not 0 <= tract < 1:
        raise UserError(f"--tract {tract:g}: give a share from 0 to below 1, such as 0.15")
    texts = sentences_in(sentences, splits, language="en")[:limit]
    chosen = choose(patterns, excluded)
    engines = sorted({voice.engine for voice in chosen})
    members = {engine: [voice for voice in chosen if voice.engine == engine] for engine in engines}
    draw = random.Random(f"{seed}")
    jobs = []
    for number, (text, split) in enumerate(texts):
        (engine,) = draw.choices(engines, [SHARES[engine] for engine in engines])
        voice = draw.choice(members[engine])
        jobs.append(_Job(f"{out.name}-{number:06d}", text, None if whole else split, voice, f"{seed}:{number}", tract))
    results = _spoken(jobs, [voices[0] for voices in members.values()], workers or os.cpu_count() or 1)
    return write_corpus(
        checked("speaking", results, len(jobs)),
        out,
        source=f"{sentences.name}, spoken by {len(chosen)} voices of {', '.join(engines)}",
        licence="synthetic speech; see each engine's licence",
    )


def _spoken(jobs: Sequence[_Job], tried: Sequence[Voice], workers: int) -> Iterator[tuple[str, Utterance | str]]:
    """What each job's engine spoke, in their order, after one voice of every engine was tried."""
    pool = ProcessPoolExecutor(workers)
    try:
        for complaint in pool.map(_trial, tried):
            if complaint:
                raise UserError(complaint)
        for job, result in zip(jobs, pool.map(_speak, jobs, chunksize=8), strict=True):
            yield job.voice.engine, result
    except BrokenExecutor as error:
        raise UserError("a process that speaks was killed: give fewer --workers where memory is short") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _trial(voice: Voice) -> str | None:
    """Why a voice cannot speak, or None if it can."""
    try:
        samples, _ = voice.say(TRIAL, random.Random(0))
    except Exception as error:  # engines raise whatever they do
        return f"{voice.engine} cannot speak: {error}"
    return None if np.any(samples) else f"{voice.engine} cannot speak: {voice} is silent"


def _speak(job: _Job) -> Utterance | str:
    draw = random.Random(job.seed)
    # Played so much faster, a voice has a shorter vocal tract; spoken so much slower first, its tempo stays.
    shorter = (1 + job.tract) ** draw.uniform(-1, 1)
    try:
        samples, rate = job.voice.say(job.text, draw, shorter)
    except Exception as error:  # engines raise whatever they do: a corpus does without this sentence
        return f"{job.voice} could not say {job.text!r}: {error}"
    clip = resample(samples, round(rate * shorter))
    loud = np.flatnonzero(np.abs(clip) > 0.005 * np.abs(clip).max(initial=0.0))
    if not len(loud):
        return f"{job.voice} said nothing for {job.text!r}"
    first = max(0, loud[0] - draw.randint(800, 4800))
    clip = clip[first : loud[-1] + draw.randint(1600, 4800)]
    clip = clip / np.abs(clip).max() * draw.uniform(0.3, 0.95)
    return Utterance(job.id, clip, job.text, job.split, str(job.voice), "en")


def main() -> int:
    """Parse the command line, speak, and return the exit code."""
    options = parser(__doc__)
    options.add_argument("--sentences", type=Path, required=True, help="a text file, one sentence a line")
    options.add_argument("--voices", nargs="+", default=["*"], metavar="PATTERN", help="voices that may speak")
    options.add_argument("--except", nargs="+", default=[], metavar="PATTERN", dest="excluded", help="that may not")
    options.add_argument("--splits", nargs="+", metavar="SPLIT", help="speak only sentences of train, dev or test")
    options.add_argument("--whole", action="store_true", help="write one set that is not split")
    options.add_argument("--limit", type=int, help="speak only so many sentences")
    options.add_argument("--tract", type=float, default=0.0, help="vary vocal tracts by up to this share, such as 0.15")
    options.add_argument("--workers", type=int, help="processes that speak at once; one a core by default")
    options.add_argument("--fetch", action="store_true", help="bring espeak-ng and flite first (needs apt, not root)")
    options.add_argument("--seed", type=int, default=0, help="of every random draw")
    given = options.parse_args()
    if given.whole and given.splits:
        options.error("--whole divides nothing, so --splits has nothing to choose from: give one of them")

    def make() -> Corpus:
        if given.fetch:
            fetch_engines()
        return voices(
            sentences=given.sentences,
            out=given.out,
            patterns=given.voices,
            excluded=given.excluded,
            splits=given.splits or SPLITS,
            whole=given.whole,
            limit=given.limit,
            tract=given.tract,
            seed=given.seed,
            workers=given.workers,
        )

    return report(make, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
