"""The stages of a long job: what is being done, how long is left, and what was done before."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CERTAIN = 60.0
"""Seconds for which the estimates of a job count before its own times do."""


@dataclass(frozen=True)
class Stage:
    """One step of a job."""

    title: str
    seconds: float
    """How long it took where it was measured: what counts is its share of the whole."""
    products: Sequence[Path]
    """What is there once it is done."""
    work: Callable[[], None]

    @property
    def done(self) -> bool:
        return all(product.exists() for product in self.products)


def run_all(stages: Sequence[Stage], *, clock: Callable[[], float] = time.monotonic) -> None:
    """Do what is not done yet, with a line for every stage that says how long is left.

    The estimate is the sum of the stages' seconds, times how much longer or shorter the ones before took here, of which
    a minute is taken to have been as expected: the first stages are short and tell little.
    """
    spent = expected = 0.0
    for number, stage in enumerate(stages, start=1):
        place = f"[{number}/{len(stages)}] {stage.title}"
        if stage.done:
            print(f"{place}: done before", flush=True)
            continue
        ahead = sum(later.seconds for later in stages[number - 1 :] if not later.done)
        slower = (spent + CERTAIN) / (expected + CERTAIN)
        print(f"\n{place} ... about {_duration(ahead * slower)} left", flush=True)
        began = clock()
        stage.work()
        spent += clock() - began
        expected += stage.seconds
    if spent:
        print(f"\nDone in {_duration(spent)}.")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
