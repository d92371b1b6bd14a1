"""Recognise audio of any length: short clips together in batches, a long recording in pieces."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lhotse.cut import Cut
from torch import nn

from trimbre.data.audio import load_cut, read_audio
from trimbre.data.batches import evaluation_batches
from trimbre.data.check import UnreadableClips
from trimbre.data.language import Languages
from trimbre.errors import OptionError, UserError
from trimbre.inference.greedy import recognise
from trimbre.models.families.registry import head_of
from trimbre.models.heads.base import CHUNK_SECONDS, OVERLAP_SECONDS, TextDecoder, Transcriber


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
    **chunks: float,
) -> Iterator[Transcript]:
    """Recognise files one after the other, each in any format that libsndfile or FFmpeg reads.

    Args:
        model: of transformers, or an exported one; switched to eval mode.
        graph: decodes by it instead of greedily; for models with a CTC head.
        chunks: `chunk_seconds` and `overlap_seconds`, as `transcriber` takes them.

    Yields:
        One transcript per file, as soon as it is there; a file that cannot be read has an `error` in place of a text.

    Raises:
        UserError: the overlap isn't shorter than the chunk.
    """
    recognised = transcriber(model, processor, graph, **chunks)
    for file in files:
        try:
            audio = read_audio(file, recognised.rate)
            if not len(audio):
                raise UserError(f"{file} holds no audio: record or copy it again")
        except UserError as error:
            yield Transcript(str(file), None, 0.0, str(error))
            continue
        yield Transcript(str(file), recognised(audio), len(audio) / recognised.rate)


def recognise_cuts(
    *,
    model: nn.Module,
    processor: Any,
    cuts: Iterable[Cut],
    graph: TextDecoder | None = None,
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
        max_seconds: padded audio in a batch, in seconds.
        tolerance: counts audio that cannot be read and is left out; without one, the first such clip is an error.
        languages: which language is spoken in them.
        precision: context that the model runs in, such as autocast.

    Yields:
        The texts of each batch, as soon as they are there.

    Raises:
        UserError: audio that cannot be read.
    """
    recognised = transcriber(model, processor, graph)
    given = list(cuts)
    longest = recognised.longest / recognised.rate
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
            texts = recognise(model, batch.inputs, processor, graph)
        positions = tuple(fitting[place] for place in batch.positions)
        yield RecognisedCuts(positions, tuple(batch.ids), tuple(texts), batch.seconds)
    for number, cut in enumerate(given):
        if cut.duration > longest:
            try:
                audio = load_cut(cut, recognised.rate)
            except UserError as error:
                tolerance.note({cut.id: str(error)})
                continue
            with precision():
                text = recognised(audio)
            yield RecognisedCuts((number,), (cut.id,), (text,), cut.duration)


def transcriber(
    model: nn.Module,
    processor: Any,
    graph: TextDecoder | None = None,
    *,
    chunk_seconds: float = CHUNK_SECONDS,
    overlap_seconds: float = OVERLAP_SECONDS,
) -> Transcriber:
    """A function from audio of any length, (samples,) mono at the model's own rate, to its text.

    Args:
        model: of transformers, or an exported one; switched to eval mode.
        graph: decodes by it instead of greedily; for models with a CTC head.
        chunk_seconds: audio that goes through the model in one forward: memory is bounded by it, but for a graph's,
            which reads the scores of all frames at once. A model with a window of its own (Whisper) takes that.
        overlap_seconds: how much of it two neighbouring chunks share, half of it as context for each of the two.

    Raises:
        ValueError: the chunk is too short, or the overlap isn't shorter than the chunk.
    """
    if chunk_seconds < 1:
        raise OptionError("chunk_seconds", chunk_seconds, "too short to recognise anything in; give 1 s or more")
    if not 0 <= overlap_seconds < chunk_seconds:
        advice = f"give 0 or more, and less than the chunk of {chunk_seconds:g} s"
        raise OptionError("overlap_seconds", overlap_seconds, advice)
    model.eval()
    head = head_of(model)
    return head.transcriber(model, processor, graph, chunk_seconds=chunk_seconds, overlap_seconds=overlap_seconds)
