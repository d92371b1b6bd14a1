"""Word and character error rates of one recogniser on one set of utterances."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trimbre.data.check import refuse_unjudgeable
from trimbre.data.cuts import CutsLike, read_cuts, speaker_of, transcript_of
from trimbre.data.language import Languages
from trimbre.data.open_asr import judged
from trimbre.data.text import normalise, spelling_of
from trimbre.data.unreadable import UnreadableClips
from trimbre.errors import UserError
from trimbre.evaluation.bootstrap import ErrorCounts, character_errors, word_errors
from trimbre.evaluation.loops import is_loop
from trimbre.evaluation.resampling import Speakers, numbered, speakers_in
from trimbre.evaluation.units import Rate, by_characters, deciding_rate
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
    languages: Sequence[str | None] = ()
    """Codes of the languages of the texts; none where they are not known."""
    as_written: tuple[Sequence[str], Sequence[str]] = ((), ())
    """References and hypotheses before normalisation."""
    left_out: Sequence[str] = ()
    """Hypotheses of utterances that are not judged by `open-asr`: those without a word in the transcript."""
    speakers: Speakers = ()
    """Who spoke each utterance; none where they are not known."""

    @cached_property
    def by_characters(self) -> tuple[bool, ...]:
        """Whether each utterance is judged by characters: where its language is written without spaces."""
        return by_characters(self.references, self.languages or [None] * len(self.references))

    @property
    def decides(self) -> Rate:
        """The rate that decides: `wer`, `cer`, or `mer` for a set of both kinds of languages."""
        return deciding_rate(self.by_characters)

    @cached_property
    def units(self) -> ErrorCounts:
        """Errors of what is judged: words, or characters in utterances that are judged by these."""
        if not any(self.by_characters):
            return self.words
        counts = word_errors(*(self._joined(texts, " ") for texts in (self.references, self.hypotheses)))
        return replace(counts, speakers=self.speakers)

    @property
    def rate(self) -> float:
        """The rate that decides, a fraction."""
        return self.units.rate

    @property
    def merge_compounds(self) -> bool:
        """Whether compounds written apart are no error: not in a set in which characters are judged."""
        return self.normalize == "open-asr" and not any(self.by_characters)

    @cached_property
    def open_asr(self) -> ErrorCounts | None:
        """Word errors as the Open ASR Leaderboard counts them; None unless all is English."""
        if self.normalize == "open-asr":
            return self.words
        if not self.languages or set(self.languages) != {"en"}:
            return None
        pairs = [[normalise(text, "open-asr") for text in pair] for pair in zip(*self.as_written, strict=True)]
        spoken = [judged(reference) for reference, _ in pairs]
        if not any(spoken):
            return None
        counts = word_errors(*zip(*compress(pairs, spoken), strict=True), merge_compounds=True)
        return replace(counts, speakers=list(compress(self.speakers, spoken)))

    @property
    def empty_transcripts(self) -> int:
        """Utterances in which nothing is spoken."""
        return int((self.units.reference == 0).sum()) + len(self.left_out)

    @property
    def hallucinated(self) -> int:
        """Words, or characters, that were recognised in utterances whose transcript is empty."""
        apart = sum(len(text.split()) for text in self.left_out)
        return int(self.units.insertions[self.units.reference == 0].sum()) + apart

    @cached_property
    def loops(self) -> NDArray[np.bool_]:
        """Which utterances were recognised as a repetition loop, (utterances,)."""
        texts = zip(self.references, self.hypotheses, self.by_characters, strict=True)
        return np.array([is_loop(ours, theirs, characters=alone) for ours, theirs, alone in texts], dtype=bool)

    def _loops_to_json(self) -> dict[str, Any]:
        """How much of the errors is in repetition loops, and the rate in percent of all other utterances."""
        words = int(self.units.reference[~self.loops].sum())
        errors = int(self.units.per_sentence[~self.loops].sum())
        return {
            "utterances": int(self.loops.sum()),
            "insertions": int(self.units.insertions[self.loops].sum()),
            "percent_of_others": round(100 * errors / words, 4) if words else None,
            "ids": list(compress(self.ids, self.loops)),
        }

    def _joined(self, texts: Sequence[str], gap: str) -> list[str]:
        """The texts, with a gap between all characters of those that are judged by these."""
        pairs = zip(texts, self.by_characters, strict=True)
        return [gap.join("".join(text.split())) if alone else text for text, alone in pairs]

    @cached_property
    def words(self) -> ErrorCounts:
        counts = word_errors(self.references, self.hypotheses, merge_compounds=self.merge_compounds)
        return replace(counts, speakers=self.speakers)

    @cached_property
    def characters(self) -> ErrorCounts:
        counts = character_errors(*(self._joined(texts, "") for texts in (self.references, self.hypotheses)))
        return replace(counts, speakers=self.speakers)

    @property
    def wer(self) -> float:
        """Word error rate, a fraction."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate, a fraction; spaces count where words are written with them."""
        return self.characters.rate

    def to_json(self) -> dict[str, Any]:
        return {
            "normalize": self.normalize,
            "utterances": len(self.ids),
            "speakers": speakers_in(self.speakers),
            "audio_seconds": round(self.seconds, 2),
            "wer": self.words.to_json(),
            "cer": self.characters.to_json(),
            **({"mer": self.units.to_json()} if self.decides == "mer" else {}),
            "decides": self.decides,
            **({} if self.open_asr is None else {"open_asr": self.open_asr.to_json()}),
            "empty_transcripts": self.empty_transcripts,
            "hallucinated": self.hallucinated,
            "loops": self._loops_to_json(),
            "unspellable_characters": dict(self.unspellable),
            "unreadable": dict(self.unreadable),
            "sentences": self.sentences(),
        }

    def sentences(self) -> dict[str, str]:
        """Errors and units of each sentence, and a hash of the references, for later paired comparisons.

        Speakers are numbers, and are there where all are known.
        """
        spoken = json.dumps([self.ids, self.references], ensure_ascii=False)
        return {
            "errors": " ".join(map(str, self.units.per_sentence.tolist())),
            "words": " ".join(map(str, self.units.reference.tolist())),
            **({} if speakers_in(self.speakers) is None else {"speakers": " ".join(map(str, numbered(self.speakers)))}),
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
    spelling: Mapping[str, str] | None = None,
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
        normalize: `none`, `basic`, `whisper`, `whisper-en` or `open-asr` (`trimbre.data.text.normalise`), applied
            to both sides.
        max_seconds: seconds of audio in a batch, padding included.
        bfloat16: run under autocast; quicker on some hardware, not for final figures.
        graph: decode by this graph instead of greedily; for CTC models.
        languages: which language utterances are in; by default their own, else the model's.
        task: `transcribe` or `translate`, for models that are told it; the preset one by default.
        spelling: as `normalise` takes it; by default the model's own.
        on_batch: called with the seconds of audio of each batch that is done.

    Raises:
        UserError: no transcript has a word, the normaliser is for another language, the model cannot be given that
            task or a language, more than 1 % of the audio cannot be read (fewer are left out, as in training), or the
            tokenizer cannot spell more than 1 % of the characters of the transcripts.
    """
    name = name or (str(data) if isinstance(data, str | Path) else "the data")
    cuts = list(read_cuts(data, allow_outside=allow_outside))
    languages = languages or Languages.of(None, (model, processor), task=task)
    spelling = spelling or spelling_of(processor)
    unspellable = refuse_unjudgeable(cuts, name=name, processor=processor, normalize=normalize, languages=languages)
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
    read = [
        (cut.id, reference, texts[position], languages.written(cut), speaker_of(cut))
        for position, cut in sorted(enumerate(cuts), key=lambda one: one[1].id)
        if position in texts and cut.id not in tolerance.unreadable and (reference := transcript_of(cut)) is not None
    ]
    compared = [
        [normalise(text, normalize, language=language, spelling=spelling) for text in pair]
        for _, *pair, language, _ in read
    ]
    spoken = [normalize != "open-asr" or judged(reference) for reference, _ in compared]
    if not any(spoken):
        raise UserError(f"{name} has no transcribed utterance whose audio can be read: give others")
    ids, *as_written, written, speakers = zip(*compress(read, spoken), strict=True)
    references, hypotheses = zip(*compress(compared, spoken), strict=True)
    return Evaluation(
        ids=ids,
        references=references,
        hypotheses=hypotheses,
        normalize=normalize,
        seconds=seconds,
        unspellable=unspellable,
        unreadable=tolerance.unreadable,
        languages=written,
        as_written=(as_written[0], as_written[1]),
        left_out=[hypothesis for (_, hypothesis), one in zip(compared, spoken, strict=True) if not one],
        speakers=speakers,
    )


def validation_wer(
    model: nn.Module, processor: Any, data: CutsLike, *, normalize: str, languages: Languages, bfloat16: bool
) -> float:
    """The rate that decides on the dev set, a fraction, for the curve of a run, in the precision of that run."""
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
        ).rate


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
