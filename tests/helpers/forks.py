"""Processes that start at once: they are forked from one that has imported everything, which takes seconds.

    ended = forks.run("trimbre.cli:run", ["prune", ...], processes=2)

Several processes are a group, as torchrun would start them.
"""

import atexit
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from helpers.places import ROOT, TESTS

SECONDS = 300
"""A process that takes longer is killed."""
PRELOADED = ("trimbre.api", "trimbre.runs.prune", "trimbre.runs.train", "trimbre.cli.prune", "trimbre.cli.train")


class Ended(NamedTuple):
    """How a process ended: 0, what the function returned, 1 for an error, or minus the signal that killed it."""

    code: int
    out: str
    err: str


class Forks:
    """The process that forks others.

    Args:
        folder: for what they print.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.server: subprocess.Popen | None = None

    def run(self, name: str, *arguments: Any, processes: int = 1) -> list[Ended]:
        """Call the function `module:function` in new processes, all at the same time."""
        if self.server is None:
            path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
            self.server = subprocess.Popen(
                [sys.executable, "-m", "helpers.forks"],
                env=environment,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        folder = self.folder / "printed"
        folder.mkdir()
        job = {"name": name, "arguments": arguments, "processes": processes, "folder": str(folder)}
        assert self.server.stdin
        assert self.server.stdout
        print(json.dumps(job), file=self.server.stdin, flush=True)
        answer = self.server.stdout.readline()
        assert answer, f"the process that forks others ended with {self.server.wait()}"
        codes = json.loads(answer)
        found = [
            Ended(code, *((folder / f"{what}-{rank}").read_text() for what in ("out", "err")))
            for rank, code in enumerate(codes)
        ]
        shutil.rmtree(folder)
        return found

    def close(self) -> None:
        if self.server is not None:
            assert self.server.stdin
            assert self.server.stdout
            self.server.stdin.close()
            self.server.wait()
            self.server.stdout.close()


def serve() -> None:
    """Read jobs line by line; answer each with the codes of its processes."""
    import torch

    for name in PRELOADED:
        importlib.import_module(name)
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        port = free_port()
        children = [fork(job, rank, port) for rank in range(job["processes"])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("localhost", 0))
        return opened.getsockname()[1]


def fork(job: dict, rank: int, port: int) -> int:
    """Start one process of a job; return its number."""
    if child := os.fork():
        return child
    code = 1
    try:
        signal.alarm(SECONDS)
        for number, what in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{job['folder']}/{what}-{rank}", os.O_WRONLY | os.O_CREAT, 0o600), number)
        if (world := job["processes"]) > 1:
            group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
            group |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in group.items()})
        module, _, function = job["name"].partition(":")
        code = getattr(importlib.import_module(module), function)(*job["arguments"]) or 0
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()  # as at the end of any process: groups are left
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
