"""Writing a corpus: audio as 16 kHz FLAC, manifests of the splits, and a note of where it is from."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trimbre.data.audio import SAMPLE_RATE, write_audio
from trimbre.data.cuts import cut_of, write_cuts
from trimbre.data.splits import SPLITS
from trimbre.errors import UserError
from trimbre.files import directory_written_whole, write_json


@dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it."""

    id: str
    clip: np.ndarray
    """(samples,) at 16 kHz."""
    text: str | None
    split: str | None
    """`train`, `dev` or `test`; None in a corpus that isn't split."""
    speaker: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class Corpus:
    """What was written."""

    out: Path
    source: str
    licence: str
    utterances: dict[str, int]
    """Number by split."""
    hours: dict[str, float]
    skipped: list[str]
    """Clips that could not be used, and why."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"out": str(self.out)}


def write_corpus(utterances: Iterable[Utterance | str], out: Path, *, source: str, licence: str) -> Corpus:
    """Write utterances as they come; a string instead of one says why a clip was skipped.

    `out` appears only when all is written: `out/SPLIT/cuts.jsonl.gz` (or `out/cuts.jsonl.gz` where nothing is split),
    the audio beside it, and `out/corpus.json`.

    Raises:
        UserError: `out` is a file or holds some, or no clip could be used.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is there and not empty: name another folder or remove it")
    counts: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    skipped: list[str] = []
    cuts: dict[str, list[Any]] = {}
    with directory_written_whole(out) as beside:
        for utterance in utterances:
            if isinstance(utterance, str):
                skipped.append(utterance)
                continue
            if not len(utterance.clip):
                skipped.append(f"{utterance.id} holds no sound")
                continue
            split = utterance.split or ""
            audio = Path("audio") / f"{utterance.id}.flac"
            write_audio(beside / split / audio, utterance.clip)
            cuts.setdefault(split, []).append(
                cut_of(
                    audio,
                    id=utterance.id,
                    text=utterance.text,
                    samples=len(utterance.clip),
                    speaker=utterance.speaker,
                    language=utterance.language,
                )
            )
            counts[split or "all"] += 1
            seconds[split or "all"] += len(utterance.clip) / SAMPLE_RATE
        if not cuts:
            raise UserError(f"no usable audio in {source}: {skipped[0] if skipped else 'it is empty'}")
        for split, members in cuts.items():
            write_cuts(members, beside / split)
        order = [name for name in (*SPLITS, "all") if counts[name]]
        corpus = Corpus(
            out,
            source,
            licence,
            {name: counts[name] for name in order},
            {name: round(seconds[name] / 3600, 4) for name in order},
            skipped,
        )
        write_json(beside / "corpus.json", {k: v for k, v in corpus.to_json().items() if k != "out"})
    return corpus
