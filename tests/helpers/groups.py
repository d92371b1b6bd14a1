"""What each of several processes of a group does, as RANK and WORLD_SIZE say which it is."""

import os
import time
from datetime import timedelta
from itertools import repeat
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from helpers.runs import QUICK
from trimbre.config import BatchConfig
from trimbre.data.batches import Batch, training_batches
from trimbre.data.cuts import read_cuts
from trimbre.data.unreadable import UnreadableClips
from trimbre.errors import OptionError, UserError
from trimbre.models.loading import load
from trimbre.pruning.pipeline import prune_model
from trimbre.training.distributed import gather_unreadable, on_main_process
from trimbre.training.loop import accelerator_for, fit
from trimbre.training.recovery import Training


def prune(teacher: str, corpus: str, out: str) -> None:
    """Prune a tiny model, and note what it ended with in a folder of the process."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    accelerator = accelerator_for("fp32")
    assert (accelerator.process_index, accelerator.num_processes) == (rank, world)
    model, processor = load(teacher)
    cuts, options, seen = read_cuts(corpus), BatchConfig(max_duration=6.0, buckets=2), set()

    def batches(start: int):
        for batch in training_batches(
            cuts, processor=processor, options=options, seed=0, start=start, rank=rank, world=world
        ):
            seen.update(batch.ids if len(seen) < 8 else ())  # within the first epoch
            yield batch

    found = prune_model(model, processor, config=QUICK, training=Training(batches, batches, accelerator, seed=0))
    place = Path(out) / str(rank)
    place.mkdir()
    save_file({name: value.clone() for name, value in found.model.state_dict().items()}, place / "model.safetensors")
    found.result.plan.save(place / "plan.json")
    (place / "seen.txt").write_text("\n".join(sorted(seen)))
    tolerance = UnreadableClips(1000, corpus)
    tolerance.note({f"clip-{rank}": "no sound"})
    (place / "unreadable.txt").write_text(" ".join(sorted(gather_unreadable(tolerance))))
    (place / "seconds.txt").write_text(str(found.fits["recover"].audio_seconds))


def waiting(case: str, out: str) -> None:
    """What `case` finds, in a group whose collectives give up after 2 s, in a file of the process."""
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=2))
    found = {"validation": _validation, "failure": _failure}[case](accelerator_for("fp32"))
    (Path(out) / os.environ["RANK"]).write_text(found)


def _validation(accelerator) -> str:
    """A curve with a validation that takes longer than the time-out, on the main process alone."""
    network = nn.Linear(2, 1)

    def validate(step: int) -> dict[str, float]:
        assert accelerator.is_main_process
        time.sleep(3)
        return {"wer": 0.25}

    result = fit(
        stage="test",
        steps=2,
        batches=lambda start: repeat(Batch({"x": torch.ones(1, 2)}, None, (), (), 1.0)),
        objective=lambda batch, step: {"loss": network(batch.inputs["x"]).sum()},
        optimizers=[torch.optim.SGD(network.parameters(), lr=0.1)],
        modules={"network": network},
        accelerator=accelerator,
        seed=0,
        validate=validate,
        validate_every=1,
    )
    return " ".join(f"{point['step']}:{point['wer']}" for point in result.curve)


def _failure(accelerator) -> str:
    """What is raised on a process when the main one fails, by errors of several kinds."""

    def fail(error: BaseException) -> None:
        raise error

    found = []
    for error in (OptionError("out", "x", "choose another"), KeyboardInterrupt(), KeyError("lost")):
        try:
            on_main_process(accelerator, lambda error=error: fail(error))
        except UserError as raised:
            found.append(str(raised))
        except (KeyboardInterrupt, KeyError, RuntimeError) as raised:
            found.append(type(raised).__name__)
    return " | ".join(found)
