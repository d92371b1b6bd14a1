"""Batches from lhotse cuts: augmented, and reproducible from any step of a resumed run."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, islice
from typing import Any

import numpy as np
import torch
from lhotse import CutSet
from torch import Tensor
from torch.utils.data import Dataset

from trimbre.config import BatchConfig
from trimbre.data.audio import load_cut
from trimbre.data.augment import augment_clips, mask_features, mask_windows
from trimbre.data.cuts import transcript_of
from trimbre.data.language import Languages
from trimbre.data.order import Order
from trimbre.data.text import labels_of
from trimbre.data.unreadable import UnreadableClips
from trimbre.data.windows import joined, pieces
from trimbre.data.workers import from_workers
from trimbre.errors import UserError
from trimbre.models.inputs import features_of, rate_of, window_of
from trimbre.models.labels import padded_labels

SPARE = 100
"""Utterances that are tried for a readable one, in place of a batch that cannot be read."""


@dataclass(frozen=True)
class Batch:
    """Several utterances, padded, as the forward of a model takes them."""

    inputs: Mapping[str, Tensor]
    """Arguments of the forward besides labels: `input_features` (batch, frames, mels) for Parakeet, `input_values`
    (batch, samples) for wav2vec 2.0, and `attention_mask` where the family takes one. The input of a decoder,
    `decoder_input_ids` and `decoder_attention_mask` (batch, tokens), is added by `trimbre.training.pseudo_labels`."""
    labels: Tensor | None
    """(batch, tokens), padded with -100; None where an utterance has no transcript, or pseudo-labels are to follow."""
    texts: Sequence[str | None]
    """Transcripts; None where there is none."""
    ids: Sequence[str]
    seconds: float
    """Seconds of audio, without padding."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Utterances that were left out because of their audio: id -> reason."""
    languages: Sequence[str | None] = ()
    """Code of the language that is spoken in each, where it is stated; of each window, for models that take windows."""
    positions: Sequence[int] = ()
    """Place of each utterance among those that were given, in batches for evaluation."""

    def to(self, device: torch.device | str) -> "Batch":
        """The batch with its tensors on `device`."""
        return self.each(lambda value: value.to(device))

    def each(self, function: Callable[[Any], Any]) -> "Batch":
        """The batch with a function of each of its tensors in their place."""
        inputs = {name: function(value) for name, value in self.inputs.items()}
        return replace(self, inputs=inputs, labels=None if self.labels is None else function(self.labels))


def collate(
    clips: Sequence[np.ndarray],
    texts: Sequence[str | None],
    ids: Sequence[str],
    *,
    processor: Any,
    normalize: str,
    languages: Sequence[str | None] = (),
) -> Batch:
    """Features and labels of clips, (samples,) each at the model's rate, padded into one batch.

    Args:
        languages: codes of the languages of the texts, one for each; none where they are not known.
    """
    features = features_of(clips, processor)
    labels = None
    if all(text is not None for text in texts):
        tokens = [
            labels_of(text or "", processor=processor, normalize=normalize, language=language)
            for text, language in zip(texts, languages or [None] * len(texts), strict=True)
        ]
        labels = padded_labels(tokens)
    return Batch(features, labels, tuple(texts), tuple(ids), sum(map(len, clips)) / rate_of(processor))


class _Loader(Dataset):
    """Makes the batch of an (index, cuts) pair; its random draws are a function of (seed, rank, index)."""

    def __init__(
        self,
        cuts: CutSet,
        *,
        processor: Any,
        options: BatchConfig,
        window: int | None,
        transcripts: bool,
        languages: Languages,
        seed: int,
        rank: int,
    ):
        self.cuts, self.processor, self.options, self.window = cuts, processor, options, window
        self.transcripts, self.languages, self.seed, self.rank = transcripts, languages, seed, rank
        self.rate = rate_of(processor)

    def __getitem__(self, item: tuple[int, Any]) -> Batch | UserError:
        index, cuts = item
        draw = np.random.default_rng(_number(self.seed, self.rank, index))
        try:
            return self._batch(cuts, draw) if self.window is None else self._windows(cuts, self.window, draw)
        except UserError as error:  # raised in a worker it would arrive as a traceback: returned instead
            return error

    def _batch(self, cuts: CutSet, draw: np.random.Generator) -> Batch:
        loaded, unreadable = self._load(cuts)
        batch = collate(
            augment_clips([clip for _, _, clip in loaded], self.options.augment, draw, self.rate),
            [transcript_of(cut) for _, cut, _ in loaded],
            [cut.id for _, cut, _ in loaded],
            processor=self.processor,
            normalize=self.options.normalize,
            languages=[self.languages.written(cut) for _, cut, _ in loaded],
        )
        return replace(
            batch,
            inputs=mask_features(batch.inputs, self.options.augment, draw),
            unreadable=unreadable,
            languages=[self.languages.spoken(cut) for _, cut, _ in loaded],
        )

    def _windows(self, windows: Sequence[Sequence[Any]], window: int, draw: np.random.Generator) -> Batch:
        owners = [number for number, inside in enumerate(windows) for _ in inside]
        loaded, unreadable = self._load(cut for inside in windows for cut in inside)
        augmented = augment_clips([clip for _, _, clip in loaded], self.options.augment, draw, self.rate)
        audio, texts, ids, languages = [], [], [], []
        for _, group in groupby(zip(loaded, augmented, strict=True), key=lambda one: owners[one[0][0]]):
            members, clips = zip(*group, strict=True)
            cuts = [cut for _, cut, _ in members]
            recorded = [clip for _, _, clip in members]
            audio.append(joined(clips, recorded, window=window * self.rate, rate=self.rate))
            texts.append(self._text(cuts))
            ids.append(" ".join(cut.id for cut in cuts))
            languages.append(self.languages.spoken(cuts[0]))
        filled = [len(samples) / (window * self.rate) for samples in audio]
        inputs = mask_windows(features_of(audio, self.processor), filled, self.options.augment, draw)
        return Batch(inputs, None, texts, ids, sum(filled) * window, unreadable, languages)

    def _text(self, cuts: Sequence[Any]) -> str | None:
        """The transcripts of a window, joined; None where the teacher has to write one."""
        texts = [transcript_of(cut) for cut in cuts]
        if not self.transcripts or None in texts:
            return None
        return " ".join(text.strip() for text in texts if text is not None)

    def _load(self, cuts: Iterable[Any]) -> tuple[list[tuple[int, Any, np.ndarray]], dict[str, str]]:
        """(position, cut, audio) of the readable cuts, and the errors of the others by id."""
        loaded, unreadable = _readable(enumerate(cuts), self.rate)
        return loaded or [(0, *self._spare(next(iter(unreadable.values()))))], unreadable

    def _spare(self, reason: str) -> tuple[Any, np.ndarray]:
        """The first readable utterance of the data, for a batch that has none; without one, raises `reason`."""
        windows = self.window is not None
        longest = self.window or self.options.longest
        given = pieces(self.cuts, window=longest, transcripts=self.transcripts or not windows)
        for cut in islice(given, SPARE):
            try:
                return cut, load_cut(cut, self.rate)
            except UserError:
                continue
        raise UserError(reason)


def training_batches(
    cuts: CutSet,
    *,
    processor: Any,
    options: BatchConfig,
    seed: int,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    tolerance: UnreadableClips | None = None,
    transcripts: bool = True,
    languages: Languages = Languages(),  # noqa: B008  frozen
) -> Iterator[Batch]:
    """Endless augmented batches, shuffled anew every epoch.

    A batch is closed when another utterance as long as its longest would exceed `max_duration`, padding included; if
    the last one is longer than those before it, the batch exceeds that by less than its length. The ranks divide the
    utterances of an epoch; at its end some are repeated, so that all ranks have equally many batches.
    An utterance longer than `longest` is left out or, without a transcript, cut into pieces.

    For a model whose input is a window of fixed length, a batch is as many windows as `max_duration` holds, at least
    one, each of several utterances (`trimbre.data.windows`). Its texts are their transcripts, joined; labels are made
    of them by `trimbre.training.pseudo_labels`.

    Args:
        start: number of batches to skip; no audio is read for these.
        rank: of `world` processes, the one whose share this is.
        tolerance: counts audio that cannot be read; without one, the first such clip is an error.
        transcripts: False gives windows no text, whatever the utterances have.
        languages: which language utterances are in.

    Raises:
        UserError: there is no utterance, or audio that cannot be read; raised when the batch is asked for.
    """
    window = window_of(processor)
    shared: dict[str, Any] = {
        "options": options,
        "window": window,
        "transcripts": transcripts,
        "seed": seed,
        "rank": rank,
    }
    order = Order(cuts, start=start, world=world, **shared)
    loader = _Loader(cuts, processor=processor, languages=languages, **shared)
    check = partial(_checked, tolerance=tolerance or UnreadableClips(0, "the data"))
    if options.workers == 0:
        return map(check, map(loader.__getitem__, order))
    made = from_workers(loader, order, arrays_of=_as_arrays, workers=options.workers, seed=seed)
    return map(check, map(_as_tensors, made))


def _as_arrays(made: Batch | UserError) -> Batch | UserError:
    """What a worker passes on: tensors would take shared memory."""
    return made if isinstance(made, UserError) else made.each(Tensor.numpy)


def _as_tensors(made: Batch | UserError) -> Batch | UserError:
    return made if isinstance(made, UserError) else made.each(torch.from_numpy)


def _checked(made: Batch | UserError, *, tolerance: UnreadableClips) -> Batch:
    if isinstance(made, UserError):
        raise made
    tolerance.note(made.unreadable)
    return made


def evaluation_batches(
    cuts: Iterable[Any],
    *,
    processor: Any,
    max_seconds: float = 120.0,
    normalize: str = "basic",
    padded: bool = True,
    tolerance: UnreadableClips | None = None,
    languages: Languages = Languages(),  # noqa: B008  frozen
) -> Iterator[Batch]:
    """Every utterance once, without augmentation, longest first.

    Args:
        max_seconds: audio in a batch, padding included; where a model takes windows, whole ones are counted.
        padded: whether clips of different lengths share a batch; False is for models whose output padding changes.
        tolerance: counts audio that cannot be read and is left out; without one, the first such clip is an error.
        languages: which language utterances are in.

    Raises:
        UserError: audio that cannot be read.
    """
    window = window_of(processor) or 0.0
    loose, tolerance = padded or window > 0, tolerance or UnreadableClips(0, "the data")
    waiting: list[tuple[int, Any]] = []
    for position, cut in sorted(enumerate(cuts), key=lambda one: one[1].duration, reverse=True):
        if waiting:
            longest = waiting[0][1].duration
            full = max(longest, window) * (len(waiting) + 1) > max_seconds
            if full or not (loose or cut.duration == longest):
                yield from _plain(waiting, processor, normalize, loose, tolerance, languages)
                waiting = []
        waiting.append((position, cut))
    if waiting:
        yield from _plain(waiting, processor, normalize, loose, tolerance, languages)


def _plain(
    cuts: Sequence[tuple[int, Any]],
    processor: Any,
    normalize: str,
    padded: bool,
    tolerance: UnreadableClips,
    languages: Languages,
) -> Iterator[Batch]:
    """A batch of the readable ones among (position, cut) pairs; where they may not be padded, one for each length."""
    loaded, unreadable = _readable(cuts, rate_of(processor))
    tolerance.note(unreadable)

    def length(one: tuple[int, Any, np.ndarray]) -> int:
        return 0 if padded else len(one[2])  # a manifest may be wrong by a few samples

    for _, group in groupby(sorted(loaded, key=length), key=length):
        positions, same, clips = zip(*group, strict=True)
        batch = collate(
            clips,
            [transcript_of(cut) for cut in same],
            [cut.id for cut in same],
            processor=processor,
            normalize=normalize,
            languages=[languages.written(cut) for cut in same],
        )
        yield replace(batch, positions=positions, languages=[languages.spoken(cut) for cut in same])


def _readable(cuts: Iterable[tuple[int, Any]], rate: int) -> tuple[list[tuple[int, Any, np.ndarray]], dict[str, str]]:
    """(position, cut, audio) of the readable ones among (position, cut) pairs, and the errors of the others by id."""
    loaded, unreadable = [], {}
    for position, cut in cuts:
        try:
            loaded.append((position, cut, load_cut(cut, rate)))
        except UserError as error:
            unreadable[cut.id] = str(error)
    return loaded, unreadable


def _number(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
