"""Looking through training data before hours are spent on it, and keeping count of what is bad in it meanwhile."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lhotse import CutSet

from trimbre.data.cuts import transcript_of
from trimbre.data.text import unspellable_characters
from trimbre.errors import UserError
from trimbre.files import write_json
from trimbre.models.inputs import window_of

UNSPELLABLE = 0.01
"""Share of the characters above which a vocabulary is not the transcripts' own."""
UNREADABLE = 0.01
"""Share of the utterances that may lack readable audio."""


class UnreadableClips:
    """Takes note of clips that cannot be read: a few in a large corpus are left out, many are an error."""

    def __init__(self, utterances: int, name: str, *, kept: Path | None = None):
        self.utterances, self.name, self.kept = utterances, name, kept
        self.unreadable: dict[str, str] = json.loads(kept.read_text()) if kept and kept.exists() else {}
        """What is wrong with each, by the cut's id; written to `kept`, so that a resumed run goes on with it."""

    def note(self, unreadable: Mapping[str, str]) -> None:
        """Add what a batch had to leave out.

        Raises:
            UserError: these are more than 1 % of the corpus by now.
        """
        before = len(self.unreadable)
        self.unreadable |= unreadable
        count = len(self.unreadable)
        if self.kept and count > before:
            write_json(self.kept, self.unreadable)
        if count > UNREADABLE * self.utterances:
            first = next(iter(self.unreadable.values()))
            others = f" ({count} of {self.utterances} utterances of {self.name} so far)" if count > 1 else ""
            raise UserError(f"{first}{others}")


@dataclass(frozen=True)
class TrainingData:
    """What a training set holds."""

    utterances: int
    hours: float
    transcribed: int
    """Utterances that have a transcript."""
    unspellable: dict[str, int]
    """How often each character occurs that the tokenizer cannot spell."""
    too_long: int = 0
    """Utterances with a transcript that are longer than the window that the model hears, and left out."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_training_data(
    cuts: CutSet, *, name: str, processor: Any, normalize: str, transcripts: bool = True
) -> TrainingData:
    """Count utterances, hours and what cannot be spelled; no audio is read.

    Args:
        transcripts: whether these are read in training, or what a teacher writes instead of them.

    Raises:
        UserError: there is no utterance, or more than 1 % of the characters cannot be spelled.
    """
    utterances, seconds, too_long, texts = 0, 0.0, 0, []
    window = window_of(processor) if transcripts else None
    for cut in cuts:
        utterances += 1
        seconds += cut.duration
        if (text := transcript_of(cut)) is not None:
            texts.append(text)
            too_long += window is not None and cut.duration > window
    if not utterances:
        raise UserError(f"--train {name} holds no utterance: check the manifest")
    return TrainingData(
        utterances,
        round(seconds / 3600, 4),
        len(texts),
        dict(refuse_unspellable(texts, name=name, processor=processor, normalize=normalize)),
        too_long,
    )


def refuse_unjudgeable(cuts: CutSet, *, name: str, processor: Any, normalize: str) -> None:
    """Raise UserError for a set to judge by that has no transcript, or one that the tokenizer cannot spell.

    Before hours are spent on the way there, where `evaluate` would raise the same.
    """
    texts = [text for cut in cuts if (text := transcript_of(cut))]
    if not texts:
        raise UserError(f"{name} has no transcribed utterance to evaluate on: give recordings with transcripts")
    refuse_unspellable(texts, name=name, processor=processor, normalize=normalize)


def refuse_unspellable(texts: list[str], *, name: str, processor: Any, normalize: str) -> Counter[str]:
    """Count the characters that the tokenizer cannot spell.

    Raises:
        UserError: they are more than 1 % of all.
    """
    unspellable = unspellable_characters(texts, processor=processor, normalize=normalize)
    share = unspellable.total() / max(1, sum(len("".join(text.split())) for text in texts))
    if share > UNSPELLABLE:
        often = ", ".join(repr(character) for character, _ in unspellable.most_common(5))
        raise UserError(
            f"{100 * share:.1f} % of the characters in the transcripts of {name} can't be spelled by the "
            f"model's tokenizer (most often {often}): use a model of that language, or try --normalize basic"
        )
    return unspellable
