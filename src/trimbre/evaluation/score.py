"""Word and character error rates of one recogniser on one set of utterances."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trimbre.data.check import UnreadableClips, refuse_unspellable
from trimbre.data.cuts import CutsLike, read_cuts, transcript_of
from trimbre.data.language import Languages
from trimbre.data.text import normalise
from trimbre.errors import UserError
from trimbre.evaluation.bootstrap import ErrorCounts, character_errors, word_errors
from trimbre.inference.long_form import recognise_cuts
from trimbre.models.device import device_of
from trimbre.models.heads.base import TextDecoder
from trimbre.progress import progress


@dataclass(frozen=True, eq=False)
class Evaluation:
    """References and hypotheses of a set of utterances, in the order of their ids, and their error rates."""

    ids: Sequence[str]
    references: Sequence[str]
    """Transcripts, normalised."""
    hypotheses: Sequence[str]
    """Recognised texts, normalised the same."""
    normalize: str
    seconds: float
    """Length of the audio."""
    unspellable: Mapping[str, int]
    """Occurrences of every character of the transcripts that the tokenizer cannot spell."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Utterances that were left out because of their audio: id -> reason."""

    @cached_property
    def words(self) -> ErrorCounts:
        return word_errors(self.references, self.hypotheses)

    @cached_property
    def characters(self) -> ErrorCounts:
        return character_errors(self.references, self.hypotheses)

    @property
    def wer(self) -> float:
        """Word error rate, a fraction."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate, spaces included, a fraction."""
        return self.characters.rate

    def to_json(self) -> dict[str, Any]:
        return {
            "normalize": self.normalize,
            "utterances": len(self.ids),
            "audio_seconds": round(self.seconds, 2),
            "wer": self.words.to_json(),
            "cer": self.characters.to_json(),
            "unspellable_characters": dict(self.unspellable),
            "unreadable": dict(self.unreadable),
            "sentences": self.sentences(),
        }

    def sentences(self) -> dict[str, str]:
        """Word errors and words of each sentence, and a hash of the references, for later paired comparisons."""
        spoken = json.dumps([self.ids, self.references], ensure_ascii=False)
        return {
            "errors": " ".join(map(str, self.words.per_sentence.tolist())),
            "words": " ".join(map(str, self.words.reference.tolist())),
            "sha256": hashlib.sha256(spoken.encode()).hexdigest(),
        }


def score(
    *,
    model: nn.Module,
    processor: Any,
    data: CutsLike,
    name: str | None = None,
    allow_outside: bool = False,
    normalize: str = "basic",
    max_seconds: float = 120.0,
    bfloat16: bool = False,
    graph: TextDecoder | None = None,
    languages: Languages | None = None,
    task: str | None = None,
    on_batch: Callable[[float], None] = lambda seconds: None,
) -> Evaluation:
    """Recognise every utterance of a set and count the errors.

    Args:
        model: a recogniser of transformers, or an exported one; runs on its own device in eval mode, then is put back
            into its own mode.
        data: a corpus folder, a manifest or cuts.
        name: what messages call the set; by default its path.
        allow_outside: as in `read_cuts`.
        normalize: `none`, `basic`, `whisper` or `whisper-en` (`trimbre.data.text.normalise`), applied to both sides.
        max_seconds: seconds of audio in a batch, padding included.
        bfloat16: run under autocast; quicker on some hardware, not for final figures.
        graph: decode by this graph instead of greedily; for CTC models.
        languages: which language utterances are in; by default their own, else the model's.
        task: `transcribe` or `translate`, for multilingual Whispers; the preset one by default.
        on_batch: called with the seconds of audio of each batch that is done.

    Raises:
        UserError: there is no transcribed utterance, the model cannot be given that task or a language, more than 1 %
            of the audio cannot be read (fewer are left out, as in training), or the tokenizer cannot spell more than
            1 % of the characters of the transcripts.
    """
    name = name or (str(data) if isinstance(data, str | Path) else "the data")
    cuts = list(read_cuts(data, allow_outside=allow_outside))
    languages = languages or Languages.of(None, (model, processor), task=task)
    tolerance = UnreadableClips(len(cuts), name)
    texts: dict[int, str] = {}  # by position: several sets together may have an id twice
    seconds = 0.0
    was_training = model.training
    model.eval()
    try:
        for batch in recognise_cuts(
            model=model,
            processor=processor,
            cuts=cuts,
            graph=graph,
            task=task,
            max_seconds=max_seconds,
            tolerance=tolerance,
            languages=languages,
            precision=partial(_precision, model, bfloat16),
        ):
            texts.update(zip(batch.positions, batch.texts, strict=True))
            seconds += batch.seconds
            on_batch(batch.seconds)
    finally:
        model.train(was_training)
    found = [
        (cut.id, reference, texts[position], languages.written(cut))
        for position, cut in sorted(enumerate(cuts), key=lambda one: one[1].id)
        if position in texts and cut.id not in tolerance.unreadable and (reference := transcript_of(cut)) is not None
    ]
    if not any(reference for _, reference, _, _ in found):
        raise UserError(f"{name} has no transcribed utterance to evaluate on: give recordings with transcripts")
    ids, references, hypotheses, spoken = zip(*found, strict=True)
    unspellable = refuse_unspellable(
        list(zip(references, spoken, strict=True)), name=name, processor=processor, normalize=normalize
    )
    return Evaluation(
        ids=ids,
        references=_normalised(references, spoken, normalize),
        hypotheses=_normalised(hypotheses, spoken, normalize),
        normalize=normalize,
        seconds=seconds,
        unspellable=unspellable,
        unreadable=tolerance.unreadable,
    )


def _normalised(texts: Sequence[str], languages: Sequence[str | None], normalize: str) -> list[str]:
    return [normalise(text, normalize, language=one) for text, one in zip(texts, languages, strict=True)]


def validation_wer(
    model: nn.Module, processor: Any, data: CutsLike, *, normalize: str, languages: Languages, bfloat16: bool
) -> float:
    """Word error rate on the dev set, a fraction, for the curve of a training run, in the precision of that run."""
    cuts = list(read_cuts(data))
    with seconds_done("validation", sum(cut.duration for cut in cuts)) as on_batch:
        return score(
            model=model,
            processor=processor,
            data=cuts,
            normalize=normalize,
            languages=languages,
            bfloat16=bfloat16,
            on_batch=on_batch,
        ).wer


@contextmanager
def seconds_done(stage: str, seconds: float) -> Iterator[Callable[[float], None]]:
    """Show the progress of a stage in seconds of audio; yields what takes the seconds of each batch."""
    total, done = math.ceil(seconds), 0.0

    def on_batch(more: float) -> None:
        nonlocal done
        done += more
        show(min(total, math.ceil(done)))

    with progress(stage, total, unit="s of audio") as show:
        show(0)
        yield on_batch


def _precision(model: nn.Module, bfloat16: bool) -> AbstractContextManager[Any]:
    return torch.autocast(device_of(model).type, dtype=torch.bfloat16) if bfloat16 else nullcontext()
