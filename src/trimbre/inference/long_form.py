"""Recognise audio of any length: short clips together in batches, a long recording in pieces."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lhotse.cut import Cut
from torch import nn

from trimbre.data.audio import load_cut, read_audio
from trimbre.data.batches import evaluation_batches
from trimbre.data.language import Languages, stated_language
from trimbre.data.unreadable import UnreadableClips
from trimbre.errors import OptionError, UserError
from trimbre.inference.greedy import recognise
from trimbre.models.families.registry import head_of
from trimbre.models.heads.base import CHUNK_SECONDS, OVERLAP_SECONDS, TextDecoder, Transcriber
from trimbre.models.inputs import rate_of


@dataclass(frozen=True)
class Transcript:
    """The text of one file, or why there is none."""

    file: str
    """The path as it was given."""
    text: str | None
    """None where the file could not be read."""
    seconds: float
    """Length of the audio."""
    error: str | None = None
    """A sentence that names the file, where it is missing, damaged or without audio."""

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data; `error` for a file without a text alone."""
        found = asdict(self)
        return found if self.error else {name: value for name, value in found.items() if name != "error"}


class RecognisedCuts(NamedTuple):
    """The texts of some cuts."""

    positions: tuple[int, ...]
    """Place of each among the cuts that were given."""
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    seconds: float
    """Audio of them all."""


def transcribe(
    *,
    model: nn.Module,
    processor: Any,
    files: Iterable[str | Path],
    graph: TextDecoder | None = None,
    language: str | None = None,
    task: str | None = None,
    **chunks: float,
) -> Iterator[Transcript]:
    """Recognise files one after the other, each in any format that libsndfile or FFmpeg reads.

    Args:
        model: of transformers, or an exported one; switched to eval mode.
        graph: decodes by it instead of greedily; for models with a CTC head.
        language, task: as `transcriber` takes them.
        chunks: `chunk_seconds` and `overlap_seconds`, as `transcriber` takes them.

    Yields:
        One transcript per file, as soon as it is there; a file that cannot be read has an `error` in place of a text.

    Raises:
        UserError: in the call, the overlap isn't shorter than the chunk, or the model cannot be given that language or
            task.
    """
    spoken = stated_language(language)
    return _transcripts(transcriber(model, processor, graph, language=spoken, task=task, **chunks), files)


def _transcripts(recognised: Transcriber, files: Iterable[str | Path]) -> Iterator[Transcript]:
    for file in files:
        try:
            audio = read_audio(file, recognised.rate)
            if not len(audio):
                raise UserError(f"{file} holds no audio: record or copy it again")
        except UserError as error:
            yield Transcript(str(file), None, 0.0, str(error))
            continue
        except OSError as error:  # such as a folder that may not be entered
            yield Transcript(str(file), None, 0.0, f"cannot read {file}: {error.strerror or error}")
            continue
        yield Transcript(str(file), recognised(audio), len(audio) / recognised.rate)


def recognise_cuts(
    *,
    model: nn.Module,
    processor: Any,
    cuts: Iterable[Cut],
    graph: TextDecoder | None = None,
    task: str | None = None,
    max_seconds: float = 120.0,
    tolerance: UnreadableClips | None = None,
    languages: Languages = Languages(),  # noqa: B008  frozen
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[RecognisedCuts]:
    """Recognise every cut once, longest batches first and what is longer than one forward takes last.

    Every cut has the text that `transcribe` gives for its audio alone: what that would take in pieces is taken in the
    same pieces, and where padding changes the output of a model, clips of one length alone share a batch.

    Args:
        model: in eval mode.
        graph: decodes by it instead of greedily; for models with a CTC head.
        task: `transcribe` or `translate`, for models that are told it; the preset one by default.
        max_seconds: padded audio in a batch, in seconds.
        tolerance: counts audio that cannot be read and is left out; without one, the first such clip is an error.
        languages: which language is spoken in them, for models that are told it; a Whisper detects it else.
        precision: context that the model runs in, such as autocast.

    Yields:
        The texts of each batch, as soon as they are there.

    Raises:
        UserError: audio that cannot be read, or the model cannot be given that task, or the language of a cut.
    """
    given = list(cuts)
    check_languages(model, processor, given, languages, task)
    rate = rate_of(processor)
    longest = transcriber(model, processor, graph).longest / rate
    fitting = [number for number, cut in enumerate(given) if cut.duration <= longest]
    tolerance = tolerance or UnreadableClips(0, "the data")
    for batch in evaluation_batches(
        [given[number] for number in fitting],
        processor=processor,
        max_seconds=max_seconds,
        padded=head_of(model).masks_padding,
        tolerance=tolerance,
        languages=languages,
    ):
        with precision():
            texts = recognise(model, batch.inputs, processor, graph, languages=batch.languages, task=task)
        positions = tuple(fitting[place] for place in batch.positions)
        yield RecognisedCuts(positions, tuple(batch.ids), tuple(texts), batch.seconds)
    for number, cut in enumerate(given):
        if cut.duration > longest:
            try:
                audio = load_cut(cut, rate)
            except UserError as error:
                tolerance.note({cut.id: str(error)})
                continue
            spoken = languages.spoken(cut)
            with precision():
                text = transcriber(model, processor, graph, language=spoken, task=task)(audio)
            yield RecognisedCuts((number,), (cut.id,), (text,), cut.duration)


def check_languages(
    model: nn.Module, processor: Any, cuts: Iterable[Cut], languages: Languages, task: str | None = None
) -> None:
    """Raise UserError where a model cannot be given the task, the language, or that of a cut."""
    check = partial(head_of(model).check_asked, model, processor)
    check(language=languages.stated, task=task)
    for spoken, id in {languages.spoken(cut): cut.id for cut in cuts}.items():
        try:
            check(language=spoken, task=task)
        except OptionError as error:
            raise UserError(f"the utterance {id} states the language {spoken!r}: {error.advice}") from error


def transcriber(
    model: nn.Module,
    processor: Any,
    graph: TextDecoder | None = None,
    *,
    chunk_seconds: float = CHUNK_SECONDS,
    overlap_seconds: float = OVERLAP_SECONDS,
    language: str | None = None,
    task: str | None = None,
) -> Transcriber:
    """A function from audio of any length, (samples,) mono at the model's own rate, to its text.

    Args:
        model: of transformers, or an exported one; switched to eval mode.
        graph: decodes by it instead of greedily; for models with a CTC head.
        chunk_seconds: audio that goes through the model in one forward: memory is bounded by it, but for a graph's,
            which reads the scores of all frames at once. A model with a window of its own (Whisper) takes that.
        overlap_seconds: how much of it two neighbouring chunks share, half of it as context for each of the two.
        language: what is spoken, for models that are told it; by default the preset one, or what the model detects,
            in a long recording from its first window.
        task: `transcribe` or `translate`, for models that are told it; the preset one by default.

    Raises:
        ValueError: the chunk is too short, the overlap isn't shorter than the chunk, or the model cannot be given that
            language or task.
    """
    if chunk_seconds < 1:
        raise OptionError("chunk_seconds", chunk_seconds, "too short to recognise anything in; give 1 s or more")
    if not 0 <= overlap_seconds < chunk_seconds:
        advice = f"give 0 or more, and less than the chunk of {chunk_seconds:g} s"
        raise OptionError("overlap_seconds", overlap_seconds, advice)
    model.eval()
    head = head_of(model)
    head.check_asked(model, processor, language=language, task=task)
    return head.transcriber(
        model,
        processor,
        graph,
        chunk_seconds=chunk_seconds,
        overlap_seconds=overlap_seconds,
        language=language,
        task=task,
    )
