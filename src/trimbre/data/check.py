"""Checks of data before a run: transcripts, spelling and length."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from lhotse import CutSet

from trimbre.data.audio import load_cut
from trimbre.data.audio_folder import overlooked_beside
from trimbre.data.cuts import transcript_of
from trimbre.data.language import Languages
from trimbre.data.text import normalise, refuse_foreign, unspellable_characters
from trimbre.errors import OptionError, UserError
from trimbre.models.inputs import window_of
from trimbre.progress import tracked

UNSPELLABLE = 0.01
"""Largest share of the characters that the vocabulary may lack."""
TRIED = 8
"""Utterances of a set of which one at least can be read."""


@dataclass(frozen=True)
class TrainingData:
    """What a check of training data found."""

    utterances: int
    hours: float
    transcribed: int
    """Utterances that have a transcript."""
    unspellable: dict[str, int]
    """How often each character occurs that the tokenizer cannot spell."""
    too_long: int = 0
    """Utterances with a transcript that are left out: longer than the window of the model, or than `longest`."""

    language: str | None = None
    """Code of the language that all transcripts are in; None for several, or where none is known."""

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


def check_training_data(
    cuts: CutSet,
    *,
    name: str,
    processor: Any,
    normalize: str,
    languages: Languages = Languages(),  # noqa: B008  frozen
    transcripts: bool = True,
    longest: float = math.inf,
) -> TrainingData:
    """Count utterances, hours and characters that cannot be spelled; no audio is read.

    Args:
        name: of the data, for messages.
        transcripts: whether training uses the transcripts, and not the teacher's own text in their place.
        longest: seconds of an utterance, at most, for a model that takes audio of any length.

    Raises:
        UserError: there is no utterance, all are too long, or more than 1 % of the characters cannot be spelled.
    """
    utterances, seconds, too_long, texts = 0, 0.0, 0, []
    window = window_of(processor)
    limit = longest if window is None else window if transcripts else math.inf
    for cut in tracked(cuts, "checking the data"):
        utterances += 1
        seconds += cut.duration
        if (text := transcript_of(cut)) is not None:
            texts.append((text, languages.written(cut)))
            too_long += cut.duration > limit
    refuse_foreign(normalize, (language for _, language in texts), name=name)
    if not utterances:
        raise OptionError("train", name, "there is no utterance in it: check the manifest")
    if too_long == utterances and window is None:
        advice = f"every utterance of {name} is longer: cut them at their pauses, or raise it"
        raise OptionError("longest", longest, advice, owner="BatchConfig")
    return TrainingData(
        utterances,
        round(seconds / 3600, 4),
        len(texts),
        dict(refuse_unspellable(texts, name=name, processor=processor, normalize=normalize)),
        too_long,
        texts[0][1] if len({language for _, language in texts}) == 1 else None,
    )


def refuse_unreadable(cuts: Iterable[Any], *, name: str) -> None:
    """Raise UserError where none of the first utterances of a set can be read, before anything is computed or written.

    Args:
        name: of the set, such as its path.
    """
    errors = []
    for cut in islice(cuts, TRIED):
        try:
            load_cut(cut.truncate(duration=min(cut.duration, 1.0), preserve_id=True))
            return
        except UserError as error:
            errors.append(error)
    if errors:
        others = f" (none of the first {len(errors)} utterances of {name} can be read)" if len(errors) > 1 else ""
        raise UserError(f"{errors[0]}{others}") from errors[0]


def refuse_unjudgeable(
    cuts: Iterable[Any],
    *,
    name: str,
    option: str = "data",
    of: str | None = None,
    processor: Any,
    normalize: str,
    languages: Languages = Languages(),  # noqa: B008  frozen
) -> Counter[str]:
    """Count the characters of an evaluation set that the tokenizer cannot spell, before anything is recognised.

    Args:
        name: of the set, such as its path.
        option: argument that the set was given by, such as `dev`.
        of: key of the set, where the argument is a mapping, such as `watch`.

    Raises:
        UserError: the set has no transcript, none with a word in it, ones of a language that the normaliser is not for,
            or ones that the tokenizer cannot spell.
    """
    texts = [(text, languages.written(cut)) for cut in cuts if (text := transcript_of(cut)) is not None]
    given = name if of is None else {of: name}
    if not texts:
        advice = f"give one with transcripts{overlooked_beside(cuts)}"
        raise OptionError(option, given, f"it has no transcribed utterance to evaluate on: {advice}")
    refuse_foreign(normalize, (language for _, language in texts), name=name)
    if not any(normalise(text, normalize, language=language).strip() for text, language in texts):
        written = next((text for text, _ in texts if text.strip()), None)
        lost = f"normalised by {normalize}, no transcript has a word left, such as {written!r}"
        said = "every transcript is empty" if written is None else lost
        raise OptionError(option, given, f"{said}, and without a word there is no error rate: give one with speech")
    return refuse_unspellable(texts, name=name, processor=processor, normalize=normalize)


def refuse_unspellable(
    texts: list[tuple[str, str | None]], *, name: str, processor: Any, normalize: str
) -> Counter[str]:
    """Count the characters that the tokenizer cannot spell.

    Args:
        texts: transcripts, each with the code of its language.
        name: of the data, for messages.

    Raises:
        UserError: they are more than 1 % of all characters.
    """
    unspellable = unspellable_characters(texts, processor=processor, normalize=normalize)
    share = unspellable.total() / max(1, sum(len("".join(text.split())) for text, _ in texts))
    if share > UNSPELLABLE:
        often = ", ".join(repr(character) for character, _ in unspellable.most_common(5))
        digits = normalize == "basic" and any(map(str.isdigit, unspellable))
        advice = "state the language, in which digits become words, or " if digits else ""
        raise UserError(
            f"{100 * share:.1f} % of the characters in the transcripts of {name} cannot be spelled by the "
            f"model's tokenizer (most often {often}): {advice}use a model of that language, or the normalisation basic"
        )
    return unspellable
