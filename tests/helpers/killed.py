"""A pruning run that kills itself.

`kill` says when: `never`, `step:N` (before its N-th batch is learned from) or `write:N` (in the middle of its N-th
write of tensors).
"""

import os
import signal
from dataclasses import replace
from pathlib import Path

import safetensors.torch

import trimbre
from helpers.runs import QUICK
from trimbre.config import BatchConfig
from trimbre.training import distillation as distill
from trimbre.training import resume as state

_counts = {"step": 0, "write": 0}


def maybe_die(where: str, kill: str) -> None:
    _counts[where] += 1
    if kill == f"{where}:{_counts[where]}":
        os.kill(os.getpid(), signal.SIGKILL)


def run(teacher: str, corpus: str, out: str, kill: str, resume: bool) -> None:
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
