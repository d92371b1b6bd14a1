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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

from trimbre.anatomy import anatomy_of
from trimbre.data.audio import read_audio
from trimbre.data.batches import Batch, training_batches
from trimbre.data.cuts import read_cuts
from trimbre.dictation import Dictation
from trimbre.distill import Distiller
from trimbre.loop import accelerator_for
from trimbre.methods.interface import Lesson
from trimbre.models import load
from trimbre.options import (
    AugmentOptions,
    BatchOptions,
    DistillOptions,
    GateOptions,
    PruneOptions,
    RecoverOptions,
    Target,
)
from trimbre.pruning import aim_of, prune_model
from trimbre.stages import Training, train_on
from trimbre.target import Ledger
from trimbre.task import transcript_loss
from trimbre.transcription import listener

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "models/telephone-en"
RECORDING = ROOT / "tests/data/please-hold.flac"


@dataclass(frozen=True)
class Request:
    """One pruning, in plain values; what is not said here is left at its default."""

    corpus: Path
    method: str = "curvature"
    remove: float = 0.5
    budget: str = "both"
    of: str = "blocks"
    learn_steps: int = 0
    refit: bool = False
    recover_steps: int = 0
    precision: str = "fp32"
    low_memory: bool = False
    augment: bool = False
    accumulate: int = 1
    layer_distance: str = "squared"
    match_every: int = 1


# The functions up to METHODS are all that calls Trimbre: a change of its API is followed here alone.


def options_of(asked: Request) -> PruneOptions:
    """The options of a run."""
    return PruneOptions(
        target=Target(remove=asked.remove, budget=asked.budget, of=asked.of),
        method=asked.method,
        learn_steps=asked.learn_steps,
        recover_steps=asked.recover_steps,
        augment=asked.augment,
        low_memory=asked.low_memory,
        gates=GateOptions(seed_batches=4),
        distill=DistillOptions(layer_distance=asked.layer_distance, match_every=asked.match_every),
        recover=RecoverOptions(refit=asked.refit, refit_batches=3),
    )


def training_of(model: Any, processor: Any, asked: Request) -> Training:
    """Data, device and seed of a run, as `trimbre prune` sets them up."""
    accelerator = accelerator_for(asked.precision)
    dictation = Dictation(model, processor, accelerator.autocast) if model.config.is_encoder_decoder else None
    batches = BatchOptions(max_duration=6.0, buckets=2, accumulate=asked.accumulate)

    def stream(start: int, augment: AugmentOptions) -> Iterator[Batch]:
        options = replace(batches, augment=augment)
        found = training_batches(
            read_cuts(str(asked.corpus)), processor=processor, options=options, seed=0, start=start
        )
        return map(dictation, found) if dictation else found

    return Training(
        batches=partial(stream, augment=AugmentOptions() if asked.augment else AugmentOptions.none()),
        recorded=partial(stream, augment=AugmentOptions.none()),
        accelerator=accelerator,
        seed=0,
        accumulate=asked.accumulate,
    )


def loaded(path: Path) -> tuple[Any, Any]:
    """The model in a folder, in eval mode and float32, and its processor."""
    model, processor = load(str(path))
    return model, processor


def inputs_of(path: Path, asked: Request, count: int) -> list[Any]:
    """The first batches that a run trains on: inputs and labels."""
    model, processor = loaded(path)
    stream = training_of(model, processor, asked).batches(0)
    return [[dict(batch.inputs), batch.labels] for batch, _ in zip(stream, range(count), strict=False)]


def costs_of(path: Path) -> dict[str, Any]:
    """Of every budget in every scope: what the dense model costs, what no cut changes, what each unit and group do."""
    model, processor = loaded(path)
    ledger = Ledger.of(model, anatomy_of(model), processor)
    return {
        f"{name} of {scope}": [repr(one.dense), repr(one.cost.fixed), one.cost.branch, one.cost.unit]
        for (name, scope), one in ledger.budgets.items()
    }


def scopes_of(path: Path) -> list[str]:
    """What a share may be of."""
    return list(anatomy_of(loaded(path)[0]).scopes)


def scores_of(path: Path, asked: Request) -> dict[str, Tensor]:
    """(units,) float64 of each sort of scores."""
    model, processor = loaded(path)
    options, anatomy = options_of(asked), anatomy_of(model)
    aim = aim_of(anatomy, Ledger.of(model, anatomy, processor), options)
    lesson = Lesson(
        Distiller(loaded(path)[0], options.distill), training_of(model, processor, asked), options, transcript_loss
    )
    return {"curvature": lesson.losses(model, aim), "taylor": lesson.slopes(model, aim)}


@dataclass(frozen=True)
class Result:
    """A pruned model and what it was made from."""

    teacher: Any
    processor: Any
    model: Any
    plan: dict[str, Any]
    """Group -> its size, the units kept, and whether it is skipped."""
    removed: dict[str, Any]
    """Shares, by budget and scope."""


def pruned(path: Path, asked: Request) -> Result:
    """Prune a model as `trimbre prune` does."""
    model, processor = loaded(path)
    made = prune_model(model, processor, options=options_of(asked), training=training_of(model, processor, asked))
    plan = made.choice.plan
    kept = {group: [size, list(plan.kept[group]), group in plan.skipped] for group, size in plan.sizes.items()}
    return Result(model, processor, made.model, kept, made.ledger.shares(plan))


def recover(found: Result, asked: Request) -> None:
    """Run recovery on the model of a result, in place."""
    options = options_of(asked)
    train_on(
        found.model,
        Distiller(found.teacher, options.distill),
        stage="recover",
        steps=options.recover_steps,
        options=options.recover,
        training=training_of(found.teacher, found.processor, asked),
    )
    found.model.eval()


def transcripts_of(model: Any, processor: Any) -> list[str]:
    """Greedy text of a recording, of a piece of it, and of it several times over, which is longer than one chunk."""
    audio = read_audio(RECORDING)
    transcribe = listener(model, processor)
    return [transcribe(clip) for clip in (audio, audio[: len(audio) // 3], np.tile(audio, 25 * 16_000 // len(audio)))]


METHODS = dict.fromkeys(("curvature", "taylor", "magnitude", "random", "layers", "activation"), 0) | dict.fromkeys(
    ("l0", "modules", "taylor-iterative"), 6
)
"""Method -> steps that it learns for."""


def stages(path: Path, corpora: Mapping[str, Path]) -> Iterator[tuple[str, Any]]:
    """Name and numbers of every stage of one model.

    Args:
        corpora: folders of clips, `transcribed` and `untranscribed`.
    """
    asked = Request(corpora["transcribed"])

    model, processor = loaded(path)
    yield "dense: weights", model.state_dict()
    yield "dense: transcripts", transcripts_of(model, processor)
    yield "dense: costs", costs_of(path)
    batches = inputs_of(path, asked, 4)
    yield "batches", batches
    yield "dense: logits", logits_of(model, batches)
    yield "batches, augmented", inputs_of(path, replace(asked, augment=True), 4)
    for name, scores in scores_of(path, asked).items():
        yield f"scores: {name}", scores

    for method, steps in METHODS.items():
        found = pruned(path, replace(asked, method=method, learn_steps=steps))
        yield f"plan: {method}", [found.plan, found.removed]
        yield f"cut: {method}", found.model.state_dict()

    whole = replace(asked, refit=True, recover_steps=5)
    found = pruned(path, replace(asked, refit=True))
    yield "refit", found.model.state_dict()
    recover(found, whole)
    yield "recovery, 5 steps", found.model.state_dict()
    yield "pruned: transcripts", transcripts_of(found.model, found.processor)
    yield "pruned: logits", logits_of(found.model, batches)
    variants = {
        "": whole,
        ", params alone": replace(whole, budget="params"),
        ", MACs alone": replace(whole, budget="macs"),
        **{f", of {name}": replace(whole, of=name, remove=0.2) for name in scopes_of(path) if name != "blocks"},
        ", l0": replace(whole, method="l0", learn_steps=6),
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
    """Save a tiny random model of every family of tests/conftest.py, each in a folder of its own."""
    spec = importlib.util.spec_from_file_location("tiny_families", ROOT / "tests/conftest.py")
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
