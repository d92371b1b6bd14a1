"""Scaling: time and memory of every stage against the size of the model and the hours of audio.

python benchmarks/growth.py              # all of it: several minutes and 14 GiB of memory
python benchmarks/growth.py --only cut   # one of: cut, step, manifest, sizes, hours

Models are randomly initialised, so nothing is downloaded. Each measurement runs in a process of its own, whose peak
resident memory is reported.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from trimbre.cli import prepare_libraries

PARAKEET_06B = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 8, "intermediate_size": 4096}
"""The shape of nvidia/parakeet-ctc-0.6b."""
SIZES = {"8 M": (192, 8), "26 M": (320, 10), "90 M": (512, 14)}
"""Name -> d_model and number of blocks; heads are 64 wide, feed-forwards four times d_model."""
HOURS = (10, 100, 1000)


def peak() -> float:
    """Peak resident memory of this process, in bytes."""
    from trimbre.benchmark.memory import resident

    held = resident(peak=True)
    assert held is not None, "the memory of a process is known on Linux alone"
    return held


def make_model(folder: str, shape: dict[str, int]) -> None:
    """Write a randomly initialised recogniser of a given shape, with the processor of the shipped one."""
    from transformers import ParakeetCTCConfig, ParakeetEncoderConfig, ParakeetForCTC

    from trimbre.models.checkpoint import save
    from trimbre.models.loading import load

    _, processor = load("models/telephone-en")
    encoder = ParakeetEncoderConfig(
        **shape, num_key_value_heads=shape["num_attention_heads"], num_mel_bins=80, layerdrop=0.0
    )
    vocabulary = len(processor.tokenizer)
    config = ParakeetCTCConfig(vocab_size=vocabulary, pad_token_id=1, encoder_config=encoder.to_dict())
    save(ParakeetForCTC(config), processor, Path(folder))


def half_plan(model: Any) -> Any:
    """The first half of every module's units."""
    from trimbre.models.families.registry import anatomy_of
    from trimbre.plan import Plan

    sizes = anatomy_of(model).sizes
    return Plan(sizes, {path: tuple(range(size // 2)) for path, size in sizes.items()})


def cut(folder: str) -> dict[str, float]:
    """Load, inspect, cut to half, save and load again."""
    from trimbre.models.checkpoint import save
    from trimbre.models.families.registry import anatomy_of
    from trimbre.models.loading import load
    from trimbre.pruning.surgery import cut as cut_model
    from trimbre.pruning.targets import ModelCosts

    took: dict[str, float] = {}

    def timed(name: str, work: Callable[..., Any], *given: Any) -> Any:
        start = time.perf_counter()
        found = work(*given)
        took[name] = time.perf_counter() - start
        return found

    model, processor = timed("load", load, folder)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    timed("inspect", ModelCosts.of, model, anatomy_of(model), processor)
    small = timed("cut", cut_model, model, half_plan(model))
    del model
    with tempfile.TemporaryDirectory() as place:
        timed("save", save, small, processor, Path(place) / "half")
        del small
        timed("load half", load, Path(place) / "half")
    return took | {"weights": weights, "peak": peak()}


def step(folder: str, seconds: str) -> dict[str, float]:
    """One distillation step, as with `low_memory`: the second of two, so that the optimizer's moments are allocated."""
    import copy

    import numpy as np
    import torch

    from trimbre.config import DistillationConfig
    from trimbre.data.batches import collate
    from trimbre.models.families.registry import anatomy_of
    from trimbre.models.loading import load
    from trimbre.models.regularisation import without_regularisation
    from trimbre.pruning.gates import Gates, gated
    from trimbre.training.distillation import Distiller, Objective
    from trimbre.training.loop import accelerator_for
    from trimbre.training.low_memory import cast_matrices_to_bfloat16, recomputed

    teacher, processor = load(folder)
    student = copy.deepcopy(teacher).train()
    cast_matrices_to_bfloat16(teacher)
    gates = Gates(anatomy_of(student))
    objective = Objective(student, Distiller(teacher, DistillationConfig()))
    weights = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=1e-6)
    log_alphas = torch.optim.Adam(gates.parameters(), lr=1e-3)
    noise = np.random.default_rng(0).standard_normal(int(float(seconds) * 16_000)).astype(np.float32)
    batch = collate([0.1 * noise], ["one two three"], ["noise"], processor=processor, normalize="basic")
    accelerator = accelerator_for("bf16")
    took = 0.0
    with gated(student, gates), without_regularisation(student), recomputed(student):
        for _ in range(2):
            start = time.perf_counter()
            with accelerator.autocast():
                loss = objective(batch, 0)["loss"]
            accelerator.backward(loss)
            for optimizer in (weights, log_alphas):
                optimizer.step()
                optimizer.zero_grad()
            took = time.perf_counter() - start
    return {"step": took, "parameters": float(sum(p.numel() for p in student.parameters())), "peak": peak()}


def make_manifest(folder: str, cuts: int) -> None:
    """Write a manifest of `cuts` cuts of 2 to 20 s; its audio files do not exist, since no measurement reads them."""
    with gzip.open(Path(folder) / "cuts.jsonl.gz", "wt", compresslevel=1) as file:
        for number in range(cuts):
            seconds = 2 + (number * 7919 % 1800) / 100
            length = {"sampling_rate": 16_000, "num_samples": int(seconds * 16_000), "duration": seconds}
            source = {"type": "file", "channels": [0], "source": f"audio/{number}.flac"}
            name = f"cut-{number}"
            said = {"id": name, "recording_id": name, "start": 0, "duration": seconds, "channel": 0}
            line = {
                "id": name,
                "start": 0,
                "duration": seconds,
                "channel": 0,
                "supervisions": [said | {"text": f"press {number % 10} to repeat the other menus again"}],
                "recording": {"id": name, "sources": [source], **length},
                "type": "MonoCut",
            }
            file.write(json.dumps(line) + "\n")


def manifest(folder: str) -> dict[str, float]:
    """Check a manifest, and draw the first batches from it."""
    from trimbre.config import BatchConfig
    from trimbre.data.check import check_training_data
    from trimbre.data.cuts import read_cuts
    from trimbre.data.order import Order
    from trimbre.models.loading import load

    _, processor = load("models/telephone-en")
    before, start = peak(), time.perf_counter()
    cuts = read_cuts(folder)
    found = check_training_data(cuts, name=folder, processor=processor, normalize="basic")
    checked = time.perf_counter() - start
    start = time.perf_counter()
    drawn = list(
        islice(Order(cuts, options=BatchConfig(), window=None, transcripts=True, seed=0, start=0, rank=0, world=1), 20)
    )
    assert len(drawn) == 20
    return {"check": checked, "first batches": time.perf_counter() - start, "growth": peak() - before} | {
        "hours": found.hours
    }


def apart(part: str, *arguments: Any) -> dict[str, float]:
    """Run a measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", part, *map(str, arguments)], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def at_size(d_model: int, blocks: int) -> dict[str, int]:
    """A shape for `make_model`."""
    return {
        "hidden_size": d_model,
        "num_hidden_layers": blocks,
        "num_attention_heads": d_model // 64,
        "intermediate_size": 4 * d_model,
    }


def show(title: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for heading in rows[0]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=120).print(table)


def report_cut(place: Path) -> None:
    found = apart("cut", place)
    weights, most = found.pop("weights"), found.pop("peak")
    row = found | {"together": sum(found.values())}
    show(
        f"parakeet-ctc-0.6b's shape, {weights / 1e9:.2f} GB of weights: seconds",
        [row | {"peak over weights": most / weights}],
    )


def report_step(place: Path) -> None:
    found = apart("step", place, 10)
    show(
        f"a distillation step on 10 s of audio, {found['parameters'] / 1e6:.0f} M parameters",
        [{"seconds": found["step"], "peak in GiB": found["peak"] / 2**30}],
    )


def report_manifest(cuts: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        make_manifest(place, cuts)
        found = apart("manifest", place)
    growth = found.pop("growth") / 1e6
    show(f"a manifest of {cuts:,} cuts: seconds", [found | {"growth of memory in MB": growth}])


def report_sizes() -> None:
    rows = []
    for name, (d_model, blocks) in SIZES.items():
        with tempfile.TemporaryDirectory() as place:
            make_model(f"{place}/model", at_size(d_model, blocks))
            row = {"model": name} | apart("cut", f"{place}/model")
            stepped = apart("step", f"{place}/model", 10)
        row["weights in GB"] = row.pop("weights") / 1e9
        row.pop("peak")
        rows.append(row | {"distillation step": stepped["step"]})
    show("seconds of every stage against the size of the model", rows)


def report_hours() -> None:
    rows = []
    for hours in HOURS:
        with tempfile.TemporaryDirectory() as place:
            make_manifest(place, round(hours * 3600 / 11))
            found = apart("manifest", place)
        rows.append(found | {"growth": found["growth"] / 1e6})
    show("seconds of every stage against the hours of audio, growth of memory in MB", rows)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=["cut", "step", "manifest", "sizes", "hours"])
    parser.add_argument("--cuts", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    prepare_libraries()
    if asked.measure:
        part, *rest = asked.measure
        print(json.dumps({"cut": cut, "step": step, "manifest": manifest}[part](*rest)))
        return
    with tempfile.TemporaryDirectory() as place:
        large = Path(place) / "model"
        if asked.only in (None, "cut", "step"):
            make_model(str(large), PARAKEET_06B)
        reports: dict[str, Callable[[], None]] = {
            "cut": partial(report_cut, large),
            "step": partial(report_step, large),
            "manifest": partial(report_manifest, asked.cuts),
            "sizes": report_sizes,
            "hours": report_hours,
        }
        for name, report in reports.items():
            if asked.only in (None, name):
                report()


if __name__ == "__main__":
    main()
