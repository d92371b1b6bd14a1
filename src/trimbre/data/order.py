"""Which utterances make which batch of training: bucketed by length, shuffled anew every epoch; no audio is read."""

import math
import warnings
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any

from lhotse import CutSet
from lhotse.dataset import DynamicBucketingSampler
from lhotse.dataset.sampling.dynamic_bucketing import estimate_duration_buckets
from torch.utils.data import IterableDataset

from trimbre.config import BatchConfig
from trimbre.data.windows import Pieces, window_batches, windows_in
from trimbre.errors import UserError


class Order(IterableDataset):
    """(index, cuts) of every batch from `start` on, epoch after epoch; the first ones are skipped without their audio.

    For a model that takes windows, the cuts are grouped by window.
    """

    def __init__(
        self,
        cuts: CutSet,
        *,
        options: BatchConfig,
        window: int | None,
        transcripts: bool,
        seed: int,
        start: int,
        rank: int,
        world: int,
    ):
        self.cuts, self.options, self.window, self.transcripts, self.seed = cuts, options, window, transcripts, seed
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return self._buckets() if self.window is None else self._windows(self.window)

    def _windows(self, window: int) -> Iterator[tuple[int, Sequence[Sequence[Any]]]]:
        batches = window_batches(
            self.cuts,
            window=window,
            windows=windows_in(self.options.max_duration, window),
            transcripts=self.transcripts,
            seed=self.seed,
            rank=self.rank,
            world=self.world,
        )
        return islice(enumerate(batches), self.start, None)

    def _buckets(self) -> Iterator[tuple[int, CutSet]]:
        fitting = CutSet(Pieces(self.cuts, self.options.longest))
        bounds = self._bounds(fitting)
        index = 0
        for epoch in count():
            with warnings.catch_warnings():
                # lhotse knows its own readers alone to be lazy.
                warnings.filterwarnings("ignore", message=".* with an eagerly read CutSet")
                sampler = DynamicBucketingSampler(
                    fitting,
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

    def _bounds(self, cuts: CutSet) -> list[float]:
        """Bounds between the buckets in seconds; fewer than asked for where there are few utterances."""
        first = list(islice(cuts, 10_000))
        if not first:
            fitting = f" of at most {self.options.longest:g} s" if any(True for _ in self.cuts) else ""
            raise UserError(f"the training data hold no utterance{fitting}: check the manifest")
        buckets = min(self.options.buckets, len(first))
        bounds = estimate_duration_buckets(first, num_buckets=buckets) if buckets > 1 else []
        return bounds or [math.inf]
