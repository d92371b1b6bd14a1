"""Compare digests of every stage of pruning before and after a change of the code that is to leave numbers alone.

Scores, plans, cut, refitted and recovered weights, costs and transcripts of a tiny random model of every family and of
the shipped recogniser are reduced to SHA-256 digests, which are equal only where every bit is. They hold for one
machine and one set of libraries. In the checkout before the change, and then in the one after it:

    PYTHONPATH=src python benchmarks/equality.py --models /tmp/tiny --out /tmp/before.json
    PYTHONPATH=src python benchmarks/equality.py --models /tmp/tiny --against /tmp/before.json

The tiny models are built in the first run and only loaded in the second. A run takes two to three minutes on one core.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from equality_calls import Request, costs_of, inputs_of, loaded, pruned, recover, scopes_of, scores_of, transcripts_of
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "models/telephone-en"
RECORDING = ROOT / "tests/recordings/please-hold.flac"


AT_ONCE = ("curvature", "taylor", "magnitude", "random", "layers", "activation")
AFTER_PAPERS = ("llm-pruner", "llm-pruner-vector", "flap", "wanda", "minitron", "shortgpt")
METHODS = dict.fromkeys((*AT_ONCE, *AFTER_PAPERS), 0) | dict.fromkeys(("l0", "modules", "taylor-iterative"), 6)
"""Method -> steps in which it trains gates."""


def stages(path: Path, corpora: Mapping[str, Path]) -> Iterator[tuple[str, Any]]:
    """Name and numbers of every stage of one model.

    Args:
        corpora: folders of clips, `transcribed` and `untranscribed`.
    """
    asked = Request(corpora["transcribed"])

    model, processor = loaded(path)
    yield "dense: weights", model.state_dict()
    yield "dense: transcripts", transcripts_of(model, processor, RECORDING)
    yield "dense: costs", costs_of(path)
    batches = inputs_of(path, asked, 4)
    yield "batches", batches
    yield "dense: logits", logits_of(model, batches)
    yield "batches, augmented", inputs_of(path, replace(asked, augment=True), 4)
    for name, scores in scores_of(path, asked).items():
        yield f"scores: {name}", scores

    for method, steps in METHODS.items():
        found = pruned(path, replace(asked, method=method, gate_steps=steps))
        yield f"plan: {method}", [found.plan, found.removed]
        yield f"cut: {method}", found.model.state_dict()

    whole = replace(asked, refit=True, recovery_steps=5)
    found = pruned(path, replace(asked, refit=True))
    yield "refit", found.model.state_dict()
    recover(found, whole)
    yield "recovery, 5 steps", found.model.state_dict()
    yield "pruned: transcripts", transcripts_of(found.model, found.processor, RECORDING)
    yield "pruned: logits", logits_of(found.model, batches)
    variants = {
        "": whole,
        ", params alone": replace(whole, budget="params"),
        ", MACs alone": replace(whole, budget="macs"),
        **{f", of {name}": replace(whole, of=name, remove=0.2) for name in scopes_of(path) if name != "blocks"},
        ", l0": replace(whole, method="l0", gate_steps=6),
        ", untranscribed": replace(whole, corpus=corpora["untranscribed"]),
        ", other options": replace(whole, augment=True, accumulate=2, layer_distance="l1-cosine", match_every=2),
        **{f", {name}": replace(whole, **changes) for name, changes in less_precise(path.name).items()},
    }
    for name, request in variants.items():
        found = pruned(path, request)
        yield f"in one call{name}", [found.plan, found.removed, found.model.state_dict()]


@torch.no_grad()
def logits_of(model: Any, batches: Sequence[Any]) -> list[Tensor]:
    """(batch, time, vocabulary) that a model makes of every batch; random models write much the same text."""
    return [model(**inputs).logits for inputs, _ in batches]


def less_precise(model: str) -> dict[str, dict[str, Any]]:
    """The precisions of recovery beside float32, as changes of a request."""
    if model.startswith("wav2vec2"):  # bfloat16 grouped convolutions as small as its are noise on processors with AMX
        return {}
    halves: dict[str, dict[str, Any]] = {"auto precision": {"precision": "auto"}, "bf16": {"precision": "bf16"}}
    low_memory: dict[str, dict[str, Any]] = {"low memory": {"precision": "bf16", "low_memory": True}}
    return halves if model.startswith("whisper") else halves | low_memory


def digest(value: Any) -> str:
    """SHA-256 of nested values; tensors count by type, shape and bytes."""
    sha = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, Tensor):
            sha.update(f"{value.dtype} {tuple(value.shape)} ".encode())
            sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(value, Mapping):
            sha.update(f"{{{len(value)} ".encode())
            for name in sorted(value):
                feed(name)
                feed(value[name])
        elif isinstance(value, Sequence) and not isinstance(value, str):
            sha.update(f"[{len(value)} ".encode())
            for one in value:
                feed(one)
        else:
            sha.update(f"{value!r} ".encode())

    feed(value)
    return sha.hexdigest()


def make_corpus(folder: Path, *, transcribed: bool) -> Path:
    """24 clips of 0.8 to 1.9 s of tones in noise, as an AudioFolder, with transcripts of short words or none."""
    folder.mkdir()
    noise, draw = np.random.default_rng(11), random.Random(11)
    rows = []
    for number in range(24):
        samples = draw.randint(13_000, 30_000)
        clip = noise.standard_normal(samples) * 0.05
        words = [draw.choice(["a", "bad", "cab", "ace", "bee"]) for _ in range(1 + samples // 12_000)]
        for place, word in enumerate(words):
            span = np.arange(samples // len(words))
            clip[place * len(span) :][: len(span)] += 0.2 * np.sin(span * (0.05 + 0.02 * (ord(word[0]) - 96)))
        soundfile.write(folder / f"{number:02d}.wav", clip, 16_000, subtype="PCM_16")
        rows.append({"file_name": f"{number:02d}.wav"} | ({"text": " ".join(words)} if transcribed else {}))
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make_tiny(folder: Path) -> None:
    """Save a tiny random model of every family of tests/helpers/families.py, each in a folder of its own."""
    spec = importlib.util.spec_from_file_location("tiny_families", ROOT / "tests/helpers/families.py")
    assert spec is not None
    assert spec.loader is not None
    families = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = families  # dataclasses look themselves up there
    spec.loader.exec_module(families)
    for name, family in families.FAMILIES.items():
        torch.manual_seed(0)
        families.shaken(family.build()).save_pretrained(folder / name)
        family.processor().save_pretrained(folder / name)


def digests_of_all(models: Path, only: Sequence[str]) -> dict[str, dict[str, str]]:
    """Model -> stage -> digest, with the stages shown as they end."""
    if not models.is_dir() or not any(models.iterdir()):
        make_tiny(models)
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        corpora = {
            name: make_corpus(Path(folder) / name, transcribed=name == "transcribed")
            for name in ("transcribed", "untranscribed")
        }
        for path in (*sorted(models.iterdir()), SHIPPED):
            if only and path.name not in only:
                continue
            began = time.monotonic()
            own = found[path.name] = {}
            for stage, value in stages(path, corpora):
                own[stage] = digest(value)
                print(f"{path.name}: {stage}, {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return found


def surroundings() -> dict[str, str]:
    """What digests depend on beside the code."""
    libraries = ("torch", "transformers", "accelerate", "lhotse", "numpy", "librosa")
    return {
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        **{name: importlib.metadata.version(name) for name in libraries},
    }


def compare(ours: Mapping[str, Mapping[str, str]], theirs: Mapping[str, Mapping[str, str]]) -> bool:
    """Print a table of models and stages; whether both sides hold the same stages with equal digests."""
    models = dict.fromkeys([*ours, *theirs])
    table = Table(Column("stage", no_wrap=True), *models)
    verdicts: list[str] = []
    for stage in dict.fromkeys(stage for side in (ours, theirs) for own in side.values() for stage in own):
        row = []
        for name in models:
            mine, other = ours.get(name, {}).get(stage), theirs.get(name, {}).get(stage)
            row.append("" if mine is other is None else verdict(mine, other))
        verdicts += filter(None, row)
        table.add_row(stage, *row)
    console = Console(width=max(120, 36 + 14 * len(models)))
    console.print(table)
    equal = verdicts.count("equal")
    console.print(f"{equal} of {len(verdicts)} digests are equal")
    return equal == len(verdicts) > 0


def verdict(mine: str | None, other: str | None) -> str:
    """What one cell of the table says."""
    if mine is None or other is None:
        return "only before" if mine is None else "only now"
    return "equal" if mine == other else "DIFFERENT"


def main() -> int:
    """Digest, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="write the digests here")
    parser.add_argument("--against", type=Path, help="compare with digests that were written before")
    parser.add_argument("--models", type=Path, help="folder of the tiny models; built there if there are none")
    parser.add_argument("--only", nargs="*", default=[], help="names of models")
    asked = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # numpy's libraries read it when they are loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = digests_of_all(asked.models or Path(folder), asked.only)
    around = surroundings()
    if asked.out:
        asked.out.write_text(json.dumps({"surroundings": around, "digests": found}, indent=2) + "\n")
    if asked.against is None:
        return 0
    before = json.loads(asked.against.read_text())
    for name, value in around.items():
        if before["surroundings"].get(name) != value:
            print(f"{name} was {before['surroundings'].get(name)} and is {value}: digests may differ for that alone")
    there = {name: own for name, own in before["digests"].items() if not asked.only or name in asked.only}
    return 0 if compare(found, there) else 1


if __name__ == "__main__":
    sys.exit(main())
