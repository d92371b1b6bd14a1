"""What training and pruning runs share: their folder of state, the size of a step, the command that is noted."""

import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from trimbre.config import BatchConfig
from trimbre.data.unreadable import UnreadableClips
from trimbre.data.windows import windows_in
from trimbre.errors import OptionError
from trimbre.files import named_path, refuse_existing
from trimbre.training.distributed import on_main_process
from trimbre.training.resume import prepare_run


def begin_run(out: Path | None, settings: Mapping[str, Any], *, resume: bool, accelerator: Accelerator) -> Path | None:
    """The folder of a run's state, which the main process prepares; None without `out`."""
    if out is None:
        return None
    return on_main_process(accelerator, partial(prepare_run, out, settings, resume=resume))


def out_folder(out: str | Path | None, *, resume: bool, model: Any = None) -> Path | None:
    """The directory to write, as a path.

    Args:
        model: the model as it was given, which is not written into.

    Raises:
        UserError: there is none, but a run is to be resumed; or it cannot be written.
    """
    if out is None and resume:
        raise OptionError("resume", True, "a run without out keeps no state: give the out of the run to resume")
    if out is None:
        return None
    refuse_existing(out, model=model)
    return named_path(out)


def unreadable_clips(utterances: int, name: str, run: Path | None, accelerator: Accelerator) -> UnreadableClips:
    """The count of unreadable audio of this process, kept in the run's folder if there is one."""
    kept = None if run is None else run / f"unreadable-{accelerator.process_index}.json"
    return UnreadableClips(utterances, name, kept=kept)


def step_size(accelerator: Accelerator, batches: BatchConfig, window: float | None = None) -> dict[str, Any]:
    """Processes of a run, and seconds of audio in one of its steps, at most.

    Args:
        window: seconds that every input of the model has, as `window_of` gives it; None for inputs of any length.
    """
    processes = accelerator.num_processes
    batch = batches.max_duration if window is None else window * windows_in(batches.max_duration, window)
    return {"processes": processes, "step_seconds": batch * batches.accumulate * processes}


def command_of(verb: str) -> str:
    """The command line that was typed, or the function that was called."""
    program = Path(sys.argv[0])
    typed = program.name == "trimbre" or program.parts[-2:] == ("trimbre", "__main__.py")
    return shlex.join(["trimbre", *sys.argv[1:]]) if typed else f"trimbre.{verb}(...)"
