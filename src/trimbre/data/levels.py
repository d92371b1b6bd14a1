"""What the samples of a file are measured in, and how its channels become one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trimbre.errors import UserError

OVER = 16.0
"""Largest sample of a recording that is taken as it is: floating-point samples may exceed full scale, by 24 dB here."""
INTEGERS = 64.0
"""Smallest peak that is taken for one of integers, where samples lie between them."""
SCALES = (2.0**15, 2.0**23, 2.0**31)
"""Full scale of integers of 16, 24 and 32 bits."""
FEW = 0.01
"""Share of samples beyond full scale under which they are damage, and the others are what was recorded."""
CANCELLED = 0.25
"""Energy of a sum of channels, over that of unrelated ones as loud, under which they are the same in opposite phase."""


@dataclass(frozen=True)
class Levels:
    """Statistics of all samples of a file."""

    frames: int
    peak: float
    """Largest magnitude of a sample."""
    beyond: float
    """Share of the samples other than 0 that exceed 1."""
    whole: bool
    """Whether every sample is an integer."""
    products: np.ndarray
    """(channels, channels) inner products of the channels without their means."""

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray], channels: int) -> "Levels":
        """Measure blocks, (frames, channels) each."""
        frames, peak, beyond, sounding, whole = 0, 0.0, 0, 0, True
        sums, products = np.zeros(channels), np.zeros((channels, channels))
        for block in blocks:
            samples = np.nan_to_num(block.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
            magnitudes = np.abs(samples)
            frames += len(samples)
            peak = max(peak, float(magnitudes.max(initial=0.0)))
            beyond += int((magnitudes > 1).sum())
            sounding += int((magnitudes > 0).sum())
            whole = whole and bool((samples == np.round(samples)).all())
            sums += samples.sum(0)
            products += samples.T @ samples
        centred = products - np.outer(sums, sums) / max(frames, 1)
        return cls(frames, peak, beyond / max(sounding, 1), whole, centred)

    def full_scale(self, place: str) -> float:
        """What floating-point samples are to be divided by: 1, or the full scale of the integers that they hold.

        Raises:
            UserError: they are neither.
        """
        if self.peak <= (1 if self.whole else OVER):
            return 1.0
        scale = next((scale for scale in SCALES if self.peak <= 2 * scale), None)
        if scale is None or not (self.whole or (self.peak >= INTEGERS and self.beyond >= FEW)):
            raise UserError(
                f"{place} has samples of up to {self.peak:g}, which are neither within full scale (1) nor integers of "
                "16, 24 or 32 bits: export it again"
            )
        return scale

    def channel(self, channels: Sequence[int]) -> int | None:
        """The channel to take in place of the mean of `channels`, where that would cancel them; None for the mean."""
        products = self.products[np.ix_(channels, channels)]
        apart = float(np.trace(products))
        if len(channels) < 2 or float(products.sum()) >= CANCELLED * apart:
            return None
        return channels[int(np.diag(products).argmax())]
