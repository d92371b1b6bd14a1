"""What each of two processes does under torchrun, in a group whose collectives give up after 2 s: `case out`."""

import os
import sys
import time
from datetime import timedelta
from itertools import repeat
from pathlib import Path

import torch
from torch import nn

from trimbre.data.batches import Batch
from trimbre.errors import OptionError, UserError
from trimbre.training.distributed import on_main_process
from trimbre.training.loop import accelerator_for, fit

torch.set_num_threads(1)


def validation(accelerator) -> str:
    """A curve with a validation that takes longer than the time-out, on the main process alone."""
    network = nn.Linear(2, 1)

    def validate(step: int) -> dict[str, float]:
        assert accelerator.is_main_process
        time.sleep(5)
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


def failure(accelerator) -> str:
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


def main(case: str, out: str) -> None:
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=2))
    found = globals()[case](accelerator_for("fp32"))
    (Path(out) / os.environ["RANK"]).write_text(found)


main(*sys.argv[1:])
