"""Writing a corpus: audio as 16 kHz FLAC, a lhotse manifest per split, and its source and licence."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trimbre.data.audio import SAMPLE_RATE, write_audio
from trimbre.data.cuts import cut_of, write_cuts
from trimbre.data.splits import SPLITS
from trimbre.errors import UserError
from trimbre.files import directory_written_whole, refuse_existing, write_json
from trimbre.progress import tracked


@dataclass(frozen=True)
class Utterance:
    """One recording and its transcript."""

    id: str
    clip: np.ndarray
    """(samples,) at 16 kHz."""
    text: str | None
    split: str | None
    """`train`, `dev` or `test`; None in a corpus that is not split."""
    speaker: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class Corpus:
    """What is in a corpus that was written."""

    out: Path
    source: str
    licence: str
    utterances: dict[str, int]
    """Number by split."""
    hours: dict[str, float]
    """Hours by split."""
    skipped: list[str]
    """Why clips could not be used, one sentence for each."""
    notes: list[str]
    """What else a user should know, such as recordings that no table lists."""

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self) | {"out": str(self.out)}


def write_corpus(
    utterances: Iterable[Utterance | str], out: str | Path, *, source: str, licence: str, notes: Sequence[str] = ()
) -> Corpus:
    """Write utterances as they come to `out`, which appears when all are written.

    It holds `SPLIT/cuts.jsonl.gz` (or `cuts.jsonl.gz` where nothing is split), the audio beside it, and `corpus.json`.

    Args:
        utterances: a string in place of one says why a clip was skipped.
        source: where the audio comes from.
        notes: what a user should know of it, one sentence each.

    Raises:
        UserError: `out` is a file or has files in it, or no clip could be used.
    """
    out = Path(out)
    refuse_existing(out)
    counts: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    skipped: list[str] = []
    cuts: dict[str, list[Any]] = {}
    with directory_written_whole(out) as beside:
        for utterance in tracked(utterances, "writing the corpus"):
            if isinstance(utterance, str):
                skipped.append(utterance)
                continue
            if not len(utterance.clip):
                skipped.append(f"{utterance.id} holds no audio")
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
        order = sorted(counts, key=lambda name: [*SPLITS, name].index(name))
        corpus = Corpus(
            out,
            source,
            licence,
            {name: counts[name] for name in order},
            {name: round(seconds[name] / 3600, 4) for name in order},
            skipped,
            list(notes),
        )
        write_json(beside / "corpus.json", {k: v for k, v in corpus.to_json().items() if k != "out"})
    return corpus
