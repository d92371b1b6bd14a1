"""What each of several processes does under torchrun: prune a tiny model and note what it ended with."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from test_pruning import QUICK

from trimbre.config import BatchConfig
from trimbre.data.batches import training_batches
from trimbre.data.check import UnreadableClips
from trimbre.data.cuts import read_cuts
from trimbre.models.loading import load
from trimbre.pruning.pipeline import prune_model
from trimbre.training.distributed import gather_unreadable
from trimbre.training.loop import accelerator_for
from trimbre.training.recovery import Training

torch.set_num_threads(1)


def main(teacher: str, corpus: str, out: str) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    accelerator = accelerator_for("fp32")
    assert (accelerator.process_index, accelerator.num_processes) == (rank, world)
    model, processor = load(teacher)
    cuts, options, heard = read_cuts(corpus), BatchConfig(max_duration=6.0, buckets=2), set()

    def batches(start: int):
        for batch in training_batches(
            cuts, processor=processor, options=options, seed=0, start=start, rank=rank, world=world
        ):
            heard.update(batch.ids if len(heard) < 8 else ())  # within the first epoch
            yield batch

    found = prune_model(model, processor, config=QUICK, training=Training(batches, batches, accelerator, seed=0))
    place = Path(out) / str(rank)
    place.mkdir()
    save_file({name: value.clone() for name, value in found.model.state_dict().items()}, place / "model.safetensors")
    found.result.plan.save(place / "plan.json")
    (place / "heard.txt").write_text("\n".join(sorted(heard)))
    tolerance = UnreadableClips(1000, corpus)
    tolerance.note({f"clip-{rank}": "no sound"})
    (place / "unreadable.txt").write_text(" ".join(sorted(gather_unreadable(tolerance))))
    (place / "seconds.txt").write_text(str(found.fits["recover"].audio_seconds))


main(*sys.argv[1:])
