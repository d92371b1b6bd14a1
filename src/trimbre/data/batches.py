"""From cuts to batches: bucketed, augmented, and the same for the same seed however often a run is stopped."""

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from lhotse import CutSet
from lhotse.dataset import DynamicBucketingSampler
from lhotse.dataset.sampling.dynamic_bucketing import estimate_duration_buckets
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from trimbre.data.audio import load_cut
from trimbre.data.augment import augment_clips, mask_features
from trimbre.data.check import Tolerance
from trimbre.data.cuts import transcript_of
from trimbre.data.text import labels_of
from trimbre.decoding import SAMPLE_RATE, features_of
from trimbre.errors import UserError
from trimbre.options import BatchOptions

SPARE = 100
"""How many utterances are tried for one to hear in place of a batch that cannot be read."""


@dataclass(frozen=True)
class Batch:
    """Several utterances, padded, as a model's forward takes them."""

    inputs: Mapping[str, Tensor]
    """What the forward takes besides labels: `input_features` (batch, frames, mels) for Parakeet, `input_values`
    (batch, samples) for wav2vec 2.0 and its kin, and where the family wants it `attention_mask`."""
    labels: Tensor | None
    """(batch, tokens), padded with -100; None where an utterance has no transcript."""
    texts: Sequence[str | None]
    ids: Sequence[str]
    seconds: float
    """Audio in it, in seconds."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Utterances that were left out because of their audio: id to what is wrong with it."""

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on `device`."""
        inputs = {name: value.to(device) for name, value in self.inputs.items()}
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, inputs=inputs, labels=labels)


def collate(
    clips: Sequence[np.ndarray],
    texts: Sequence[str | None],
    ids: Sequence[str],
    *,
    processor: Any,
    normalize: str,
) -> Batch:
    """Pad clips, (samples,) each at 16 kHz, and their transcripts into one batch."""
    features = features_of(clips, processor)
    labels = None
    if all(text is not None for text in texts):
        spelled = [labels_of(text or "", processor=processor, normalize=normalize) for text in texts]
        labels = torch.full((len(spelled), max(map(len, spelled), default=0)), -100)
        for row, tokens in zip(labels, spelled, strict=True):
            row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    return Batch(features, labels, tuple(texts), tuple(ids), sum(map(len, clips)) / SAMPLE_RATE)


class _Order(IterableDataset):
    """(index, cuts) of every batch from `start` on, epoch after epoch; no audio is touched to skip the first ones."""

    def __init__(self, cuts: CutSet, *, options: BatchOptions, seed: int, start: int, rank: int, world: int):
        self.cuts, self.options, self.seed = cuts, options, seed
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[tuple[int, CutSet]]:
        bounds = self._bounds()
        index = 0
        for epoch in count():
            with warnings.catch_warnings():
                # lhotse would rather read an AudioFolder piece by piece.
                warnings.filterwarnings("ignore", message=".* with an eagerly read CutSet")
                sampler = DynamicBucketingSampler(
                    self.cuts,
                    max_duration=self.options.max_duration,
                    duration_bins=bounds,
                    shuffle=True,
                    seed=self.seed,
                    rank=self.rank,
                    world_size=self.world,
                )
            sampler.set_epoch(epoch)
            for cuts in sampler:
                if index >= self.start:
                    yield index, cuts
                index += 1

    def _bounds(self) -> list[float]:
        """Lengths, in seconds, between the buckets: fewer than asked for where there are few utterances."""
        seen = list(islice(self.cuts, 10_000))
        if not seen:
            raise UserError("the training data holds no utterance: check the manifest given to --train")
        buckets = min(self.options.buckets, len(seen))
        bounds = estimate_duration_buckets(seen, num_buckets=buckets) if buckets > 1 else []
        return bounds or [math.inf]


class _Loader(Dataset):
    """Makes the batch of an (index, cuts) pair; its random draws follow from seed, index and rank alone."""

    def __init__(self, cuts: CutSet, *, processor: Any, options: BatchOptions, seed: int, rank: int):
        self.cuts, self.processor, self.options, self.seed, self.rank = cuts, processor, options, seed, rank

    def __getitem__(self, item: tuple[int, CutSet]) -> Batch | UserError:
        try:
            return self._batch(*item)
        except UserError as error:  # raised in another process it would arrive as a traceback: handed over instead
            return error

    def _batch(self, index: int, cuts: CutSet) -> Batch:
        draw = np.random.default_rng(_number(self.seed, self.rank, index))
        heard, clips, unreadable = [], [], {}
        for cut in cuts:
            try:
                clips.append(load_cut(cut))
                heard.append(cut)
            except UserError as error:
                unreadable[cut.id] = str(error)
        if not heard:
            cut, clip = self._spare(next(iter(unreadable.values())))
            heard, clips = [cut], [clip]
        batch = collate(
            augment_clips(clips, self.options.augment, draw),
            [transcript_of(cut) for cut in heard],
            [cut.id for cut in heard],
            processor=self.processor,
            normalize=self.options.normalize,
        )
        return replace(batch, inputs=mask_features(batch.inputs, self.options.augment, draw), unreadable=unreadable)

    def _spare(self, reason: str) -> tuple[Any, np.ndarray]:
        """The first utterance of the data that can be read, for a batch that came to nothing; else raises `reason`."""
        for cut in islice(self.cuts, SPARE):
            try:
                return cut, load_cut(cut)
            except UserError:
                continue
        raise UserError(reason)


def training_batches(
    cuts: CutSet,
    *,
    processor: Any,
    options: BatchOptions,
    seed: int,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    tolerance: Tolerance | None = None,
) -> Iterator[Batch]:
    """Endless augmented batches, shuffled anew every epoch; `start` of them are passed over.

    A batch is closed when another utterance as long as its longest would exceed `max_duration`, padding included; one
    that proves longer than those before it makes it longer, by less than itself. Ranks share an epoch's utterances
    out; where fewer than there are ranks remain, some are repeated, so that no rank waits for ever.

    Args:
        tolerance: takes note of audio that cannot be read; without one, the first such clip is an error.

    Raises:
        UserError: there is no utterance, or audio that cannot be read; when the batch is asked for.
    """
    order = _Order(cuts, options=options, seed=seed, start=start, rank=rank, world=world)
    loader = _Loader(cuts, processor=processor, options=options, seed=seed, rank=rank)
    check = partial(_checked, tolerance=tolerance or Tolerance(0, "the data"))
    if options.workers == 0:
        return map(check, map(loader.__getitem__, order))
    batches = DataLoader(loader, sampler=order, batch_size=None, num_workers=options.workers, prefetch_factor=4)  # type: ignore[arg-type]
    return map(check, batches)


def _checked(made: Batch | UserError, *, tolerance: Tolerance) -> Batch:
    if isinstance(made, UserError):
        raise made
    tolerance.note(made.unreadable)
    return made


def evaluation_batches(
    cuts: CutSet, *, processor: Any, max_seconds: float = 120.0, normalize: str = "basic"
) -> Iterator[Batch]:
    """Every utterance once, without augmentation, longest first; `ids` tell which is which."""
    waiting: list[Any] = []
    for cut in sorted(cuts, key=lambda cut: cut.duration, reverse=True):
        if waiting and waiting[0].duration * (len(waiting) + 1) > max_seconds:
            yield _plain(waiting, processor, normalize)
            waiting = []
        waiting.append(cut)
    if waiting:
        yield _plain(waiting, processor, normalize)


def _plain(cuts: Sequence[Any], processor: Any, normalize: str) -> Batch:
    return collate(
        [load_cut(cut) for cut in cuts],
        [transcript_of(cut) for cut in cuts],
        [cut.id for cut in cuts],
        processor=processor,
        normalize=normalize,
    )


def _number(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
