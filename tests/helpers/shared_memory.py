"""Batches from workers where shared memory is small: `python -m helpers.shared_memory DATA` in a mount of its own."""

import subprocess
import sys

from helpers.mini_recogniser import mini_processor
from trimbre.config import BatchConfig
from trimbre.data.batches import training_batches
from trimbre.data.cuts import read_cuts
from trimbre.errors import UserError

BATCHES = 12


def batches(data: str, workers: int):
    """The first batches of a corpus."""
    options = BatchConfig(max_duration=6.0, buckets=2, workers=workers)
    stream = training_batches(read_cuts(data), processor=mini_processor(), options=options, seed=1)
    return [next(stream) for _ in range(BATCHES)]


def total(made) -> float:
    """The sum of all features."""
    return sum(float(batch.inputs["input_features"].double().sum()) for batch in made)


if __name__ == "__main__":
    for size in ("64k", "4k"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "/dev/shm"], check=True)
        try:
            print(total(batches(sys.argv[1], 2)))
        except UserError as error:
            print(error)
