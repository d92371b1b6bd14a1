"""The commands of the demo, as one would type them, and how they are run."""

import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from trimbre.files import written_whole

DEMO = Path("demo")
DENSE = Path("models/telephone-en")
HALF = DEMO / "half"
TIMED = DEMO / "timed.json"
SENTENCE = {"dense": DEMO / "sentence-dense.json", "pruned": DEMO / "sentence-pruned.json"}
STEPS = 700
"""Of recovery, and as many for the control: what leaves both in a few minutes."""
STEP_SECONDS = 32.0
PATIENCE = 10.0
"""Seconds in which processes end by themselves, once one of them failed or all were interrupted."""


class Failed(Exception):
    """A command failed, which has said why; `code` is its exit code."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


def prune(*, train: Sequence[Path], dev: Path, watch: Mapping[str, Path]) -> None:
    """Prune by half, with a control; an interrupted run is resumed."""
    count = processes()
    run(
        ["trimbre", "prune", str(DENSE), "--train", ",".join(map(str, train)), "--dev", str(dev)]
        + ["--watch", *(f"{name}={place}" for name, place in watch.items())]
        + ["--remove", "0.5", "--control", "--out", str(HALF), "--recover-steps", str(STEPS)]
        + ["--max-duration", f"{STEP_SECONDS / count:g}", "--validate-every", "200"]
        + (["--resume"] if HALF.with_name(f"{HALF.name}.run").exists() else []),
        processes=count,
    )


def time_both(data: Path) -> None:
    """Time the pruned model beside the model as it came, on utterances and on a recording made of them."""
    command = ["trimbre", "eval", str(HALF), "--against", str(DENSE), "--data", str(data), "--clips", "40", "--json"]
    run(command, save=TIMED)


def transcribe(file: Path) -> None:
    """Transcribe one recording with both models."""
    for name, model in {"dense": DENSE, "pruned": HALF}.items():
        run(["trimbre", "transcribe", str(model), str(file), "--json"], save=SENTENCE[name])


def run(command: Sequence[str], *, processes: int = 1, save: Path | None = None, log: IO | None = None) -> None:
    """Show a command and run it.

    Args:
        processes: how many share the work, as under torchrun; but their exit code and words are the command's own.
        save: where to write the JSON object that it prints last.
        log: file that takes what it prints, in place of the terminal.

    Raises:
        Failed: it ended with another exit code than 0.
    """
    shared = ["torchrun", "--standalone", "--nproc-per-node", str(processes), "-m"] if processes > 1 else []
    line = f"$ {shlex.join([*shared, *command])}{f' > {save}' if save else ''}"
    print(line, flush=True)
    if log is not None:
        print(line, file=log, flush=True)
    program = [sys.executable, *(["-m", "trimbre"] if command[0] == "trimbre" else []), *command[1:]]
    if save is None:
        code = _wait(_start(program, processes, log, log))
    else:
        with tempfile.TemporaryFile() as said:
            code = _wait(_start(program, processes, said, log))
            said.seek(0)
            if code == 0:
                found = json.loads(said.read().splitlines()[-1])
                with written_whole(save) as beside:
                    beside.write_text(json.dumps(found, ensure_ascii=False))
    if code:
        raise Failed(code)


def _start(
    program: Sequence[str], processes: int, out: IO | None = None, err: IO | None = None
) -> list[subprocess.Popen]:
    """Start a program, or several processes of it that find each other as torch.distributed's do."""
    if processes == 1:
        return [subprocess.Popen(program, stdout=out, stderr=err)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
    }
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    environments = [{**os.environ, **together, **rank} for rank in ranks]
    return [subprocess.Popen(program, stdout=out, stderr=err, env=one) for one in environments]


def _wait(running: Sequence[subprocess.Popen]) -> int:
    """Wait for processes until one fails, end the others, and return the exit code: the first one's, if it failed."""
    try:
        codes = [one.poll() for one in running]
        while None in codes and not any(codes):
            time.sleep(0.1)
            codes = [one.poll() for one in running]
        if any(codes):
            _let_end(running[:1])  # it alone speaks, and may be about to say what is wrong
            codes = [one.poll() for one in running]
    except KeyboardInterrupt:
        _let_end(running)  # they were interrupted, too, and say how to go on
        raise
    finally:
        for one in running:
            one.kill()
            one.wait()
    code = next(filter(None, codes), 0)
    return code if code >= 0 else 128 - code


def _let_end(running: Sequence[subprocess.Popen]) -> None:
    """Give processes some time to end by themselves."""
    for one in running:
        with suppress(subprocess.TimeoutExpired):
            one.wait(PATIENCE)


def processes() -> int:
    """Two processes of one thread train a model this small faster than one of two; an accelerator is not shared."""
    import torch

    return 2 if (os.cpu_count() or 1) > 1 and not torch.accelerator.is_available() else 1
