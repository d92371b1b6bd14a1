"""A pruning run that kills itself, and goes on, and kills itself again: `teacher corpus out kill...`.

Each `kill` is a process, forked from one that imported everything, and all but the first resume: `never`, `step:N`
(killed before its N-th batch is learned from) or `write:N` (killed in the middle of its N-th write of tensors).
How each ended is printed: 0, or minus the signal that killed it, and whether there is a result.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from test_pruning import QUICK

import trimbre
from trimbre.config import BatchConfig
from trimbre.training import distillation as distill
from trimbre.training import resume as state

torch.set_num_threads(1)
_counts = {"step": 0, "write": 0}


def maybe_die(where: str, kill: str) -> None:
    _counts[where] += 1
    if kill == f"{where}:{_counts[where]}":
        os.kill(os.getpid(), signal.SIGKILL)


def run(teacher: str, corpus: str, out: str, kill: str, *, resume: bool) -> None:
    learn, write = distill.Objective.__call__, safetensors.torch.save_file

    def learning(self, batch, step):
        maybe_die("step", kill)
        return learn(self, batch, step)

    def writing(tensors, path, *more, **options):
        Path(path).write_bytes(b"half a file")
        maybe_die("write", kill)
        write(tensors, path, *more, **options)

    distill.Objective.__call__ = learning
    state.save_file = writing
    batches = BatchConfig(max_duration=6.0, buckets=2, workers=2)
    config = replace(QUICK, batches=batches, precision="bf16", save_every=2, validate_every=3)
    trimbre.prune(teacher, train=corpus, dev=corpus, out=out, config=config, resume=resume)


def main(teacher: str, corpus: str, out: str, *kills: str) -> None:
    for number, kill in enumerate(kills):
        if not (child := os.fork()):
            code = 1
            try:
                run(teacher, corpus, out, kill, resume=number > 0)
                code = 0
            finally:
                os._exit(code)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(kill, ended, Path(out).exists(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
