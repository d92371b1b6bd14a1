"""Word and character error rates of a recogniser, how sure they are, and how they compare with another's."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from lhotse import CutSet
from torch import nn

from trimbre.costs.size import Size, size
from trimbre.data.check import refuse_unspellable
from trimbre.data.cuts import read_cuts, transcript_of
from trimbre.data.text import normalise
from trimbre.errors import UserError
from trimbre.evaluation.bootstrap import Errors, PairedDifference, character_errors, paired_difference, word_errors
from trimbre.inference.long_form import recognise_cuts
from trimbre.models.heads.base import TextDecoder
from trimbre.models.loading import Recogniser
from trimbre.progress import progress

Data: TypeAlias = str | Path | CutSet
TEACHER_FAILS = 0.30  # WER above which a comparison with the teacher says nothing


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a recogniser made of a set of utterances; sentences in the order of their ids."""

    ids: Sequence[str]
    references: Sequence[str]
    """Transcripts, normalised."""
    hypotheses: Sequence[str]
    """What was recognised, normalised the same."""
    normalize: str
    seconds: float
    """Audio, in seconds."""
    unspellable: Mapping[str, int]
    """How often each character occurs in the transcripts that the tokenizer can't spell."""

    @cached_property
    def words(self) -> Errors:
        return word_errors(self.references, self.hypotheses)

    @cached_property
    def characters(self) -> Errors:
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
            "sentences": self.sentences(),
        }

    def sentences(self) -> dict[str, str]:
        """What a later comparison needs, compactly: word errors and words of each sentence, and which these are."""
        spoken = json.dumps([self.ids, self.references], ensure_ascii=False)
        return {
            "errors": " ".join(map(str, self.words.per_sentence.tolist())),
            "words": " ".join(map(str, self.words.reference.tolist())),
            "sha256": hashlib.sha256(spoken.encode()).hexdigest(),
        }


def evaluate(
    *,
    model: nn.Module,
    processor: Any,
    data: Data,
    allow_outside: bool = False,
    normalize: str = "basic",
    max_seconds: float = 120.0,
    bfloat16: bool = False,
    graph: TextDecoder | None = None,
    on_batch: Callable[[float], None] = lambda seconds: None,
) -> Evaluation:
    """Recognise every utterance and count the errors.

    Args:
        model: of transformers, with a CTC head or a decoder; evaluated in eval mode, then put back into its own.
        data: a corpus folder or manifest, or its cuts.
        allow_outside: as in `read_cuts`.
        normalize: `none`, `basic` or `whisper-en` (`trimbre.data.text.normalise`), applied to both sides.
        max_seconds: padded audio in a batch, in seconds.
        bfloat16: run under autocast: quicker on some hardware, not for final figures.
        graph: decodes by it instead of greedily; for CTC models.
        on_batch: told the seconds of audio in each batch once it's done.

    Raises:
        UserError: there is no transcribed utterance, or the tokenizer can't spell more than 1 % of the
            characters of the transcripts.
    """
    cuts = data if isinstance(data, CutSet) else read_cuts(data, allow_outside=allow_outside)
    name = "the data" if isinstance(data, CutSet) else str(data)
    spoken = {cut.id: transcript_of(cut) for cut in cuts}
    found: list[tuple[str, str, str]] = []  # id, transcript, what was recognised
    seconds = 0.0
    was_training = model.training
    model.eval()
    try:
        for done in recognise_cuts(
            model=model,
            processor=processor,
            cuts=cuts,
            graph=graph,
            max_seconds=max_seconds,
            precision=partial(_precision, model, bfloat16),
        ):
            rows = [(id, spoken[id], text) for id, text in zip(done.ids, done.texts, strict=True)]
            found += [(id, reference, text) for id, reference, text in rows if reference is not None]
            seconds += done.seconds
            on_batch(done.seconds)
    finally:
        model.train(was_training)
    if not any(reference for _, reference, _ in found):
        raise UserError(f"{name} has no transcribed utterance to evaluate on: give recordings with transcripts")
    ids, references, hypotheses = zip(*sorted(found), strict=True)
    unspellable = refuse_unspellable(list(references), name=name, processor=processor, normalize=normalize)
    return Evaluation(
        ids=ids,
        references=[normalise(reference, normalize) for reference in references],
        hypotheses=[normalise(text, normalize) for text in hypotheses],
        normalize=normalize,
        seconds=seconds,
        unspellable=unspellable,
    )


def validation_wer(model: nn.Module, processor: Any, data: CutSet, *, normalize: str, bfloat16: bool) -> float:
    """Word error rate on the dev set, a fraction, for the curve of a training run, in the precision of that run."""
    total = math.ceil(sum(cut.duration for cut in data))
    done = 0.0

    def on_batch(seconds: float) -> None:
        nonlocal done
        done += seconds
        show(min(total, math.ceil(done)))

    with progress("validation", total, unit="s of audio") as show:
        return evaluate(
            model=model, processor=processor, data=data, normalize=normalize, bfloat16=bfloat16, on_batch=on_batch
        ).wer


def compare(candidate: Evaluation, baseline: Evaluation, *, margin_percent: float = 10.0) -> PairedDifference:
    """Compare the word errors of two recognisers on the same sentences.

    Raises:
        ValueError: the two were not evaluated on the same sentences, normalised the same.
    """
    if (candidate.ids, candidate.references) != (baseline.ids, baseline.references):
        raise ValueError("The two recognisers were evaluated on different sentences.")
    return paired_difference(candidate.words, baseline.words, margin_percent=margin_percent)


@dataclass(frozen=True, eq=False)
class SetResult:
    """One set of utterances: the candidate, and the teacher beside it if there is one."""

    evaluation: Evaluation
    teacher: Evaluation | None
    margin_percent: float

    @property
    def teacher_fails(self) -> bool:
        """The teacher's own WER is above 30 %: no verdict is drawn from such speech."""
        return self.teacher is not None and self.teacher.wer > TEACHER_FAILS

    @cached_property
    def comparison(self) -> PairedDifference | None:
        if self.teacher is None:
            return None
        return compare(self.evaluation, self.teacher, margin_percent=self.margin_percent)

    @property
    def sentence(self) -> str:
        """The verdict in words; empty without a teacher."""
        if self.comparison is None or self.teacher is None:
            return ""
        if self.teacher_fails:
            return f"teacher fails here ({100 * self.teacher.wer:.1f} % WER): no verdict"
        return self.comparison.sentence

    def to_json(self) -> dict[str, Any]:
        found = self.evaluation.to_json()
        if self.comparison is None or self.teacher is None:
            return found
        comparison = self.comparison.to_json() | {
            "sentence": self.sentence,
            "teacher_fails": self.teacher_fails,
        }
        if self.teacher_fails:
            comparison["verdict"] = None
        return found | {"teacher": self.teacher.to_json(), "comparison": comparison}


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """A recogniser on dev and on speech unlike its training audio, with its size."""

    sets: Mapping[str, SetResult]
    """The main one first (`dev` in a pruning run), then the watched ones by name."""
    size: Size
    teacher_size: Size | None
    normalize: str
    graph: Mapping[str, Any] | None = None
    """What is told of the graph that was decoded by."""

    def to_json(self) -> dict[str, Any]:
        return {
            "normalize": self.normalize,
            "graph": self.graph,
            "size": self.size.to_json(),
            "teacher_size": self.teacher_size and self.teacher_size.to_json(),
            "sets": {name: result.to_json() for name, result in self.sets.items()},
        }


def evaluate_sets(
    *,
    recogniser: Recogniser,
    dev: Data,
    name: str = "dev",
    watch: Mapping[str, Data] | None = None,
    against: Recogniser | None = None,
    graph: TextDecoder | None = None,
    allow_outside: bool = False,
    normalize: str = "basic",
    margin_percent: float = 10.0,
) -> EvaluationReport:
    """Evaluate on dev and on every watched set, beside the teacher if there is one.

    Args:
        name: what the main set, `dev`, is called in the report.
        watch: speech unlike the training audio, by name: a model adapted on narrow audio is a narrow model.
        against: the teacher, or whatever the recogniser is to be compared with.
        graph: both decode by it instead of greedily.
        margin_percent: how much worse, relative to the teacher's WER, may still be called "not worse".

    How far it is shows on stderr.

    Raises:
        UserError: as `evaluate`, or a watched set is called like the main one.
    """
    refuse_name(watch or {}, name)
    pair = [recogniser] if against is None else [recogniser, against]
    found = {}
    for each, data in {name: dev, **(watch or {})}.items():
        ours, *theirs = _heard(pair, each, data, graph=graph, allow_outside=allow_outside, normalize=normalize)
        found[each] = SetResult(ours, theirs[0] if theirs else None, margin_percent)
    return EvaluationReport(
        sets=found,
        size=size(*recogniser),
        teacher_size=size(*against) if against else None,
        normalize=normalize,
        graph=None if graph is None else graph.to_json(),
    )


def refuse_name(watch: Iterable[str], name: str) -> None:
    """Raise UserError where a watched set is called like the main one."""
    if name in watch:
        raise UserError(f"a watched set can't be called {name!r}, which is the name of the main one: rename it")


def _heard(
    recognisers: Sequence[Recogniser],
    name: str,
    data: Data,
    *,
    graph: TextDecoder | None,
    allow_outside: bool,
    normalize: str,
) -> list[Evaluation]:
    """What each recogniser makes of a set, with progress."""
    cuts = data if isinstance(data, CutSet) else read_cuts(data, allow_outside=allow_outside)
    total = math.ceil(len(recognisers) * sum(cut.duration for cut in cuts))
    done = 0.0

    def on_batch(seconds: float) -> None:
        nonlocal done
        done += seconds
        show(min(total, math.ceil(done)))

    with progress(f"seconds of {name}", total) as show:
        show(0)
        return [
            evaluate(
                model=one.model,
                processor=one.processor,
                data=data,
                allow_outside=allow_outside,
                normalize=normalize,
                graph=graph,
                on_batch=on_batch,
            )
            for one in recognisers
        ]


def _precision(model: nn.Module, bfloat16: bool) -> AbstractContextManager[Any]:
    if not bfloat16:
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16)
