"""Cross-validated error rates on AN4's 84 speakers: each clip is judged by models that never trained on its speaker.

make demo                                                        # brings prompts and synthetic voices
python recipes/teacher/real.py --speech SPEECH --out data/real   # AN4, speechocean762 and LJ Speech
OMP_NUM_THREADS=1 python benchmarks/claims/an4.py                # goes on where it stopped; --fold 0 2 4 does some

All folds start from one model that knows no speaker of AN4: models/telephone-en, grown to eight blocks and trained on
everything else. The dense model of a fold is this one, fine-tuned on the speakers of the other folds. It is pruned by
half and by three quarters, and its control trains as long on the same audio. `runs/an4/fold-*.json` has the errors of
every clip; pooled, they are written to benchmarks/claims/an4.json.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import CutSet, MonoCut

import trimbre
from trimbre.config import AugmentConfig, BatchConfig, RecoveryConfig, TrainConfig
from trimbre.data.cuts import read_cuts, write_cuts
from trimbre.data.splits import place_of
from trimbre.evaluation.bootstrap import bootstrap_difference, bootstrap_interval
from trimbre.evaluation.score import Evaluation, score
from trimbre.files import write_json
from trimbre.models.loading import load

OUT = Path("runs/an4")
POOLED = Path("benchmarks/claims/an4.json")
FOLDS = 7
SHARES = {"half": 0.5, "quarter": 0.75}
STEP = 32.0
"""Seconds of audio in a step."""
REPEATS = 6
"""Times that AN4, which is small, is repeated in an epoch."""
VOICES = 2000
"""Sentences of synthetic voices among the training data of a fold."""


def main() -> None:
    """Run the folds asked for, and pool all of them once they are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fold", type=int, nargs="*", default=range(FOLDS), help="folds to run; all by default")
    parser.add_argument("--steps", type=int, default=400, help="of fine-tuning, and of recovery")
    parser.add_argument("--start-steps", type=int, default=500, help="of training the model that all folds start from")
    parser.add_argument("--demo", type=Path, default=Path("demo"))
    parser.add_argument("--real", type=Path, default=Path("data/real"))
    asked = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if not (OUT / "start").is_dir():
        make_start(asked)
    clips = [cut for split in ("train", "dev", "test") for cut in read_cuts(asked.real / "an4" / split)]
    for fold in asked.fold:
        file = OUT / f"fold-{fold}.json"
        if not file.is_file():
            write_json(file, run(asked, fold, clips))
    files = [OUT / f"fold-{fold}.json" for fold in range(FOLDS)]
    if all(file.is_file() for file in files):
        found = pooled([json.loads(file.read_text()) for file in files])
        write_json(POOLED, found)
        print(json.dumps(found, indent=1))


def make_start(asked: argparse.Namespace) -> None:
    """Grow the shipped recogniser to eight blocks and train it on all speech but AN4."""
    grown = OUT / "grown"
    if not grown.is_dir():
        grow = ["recipes/teacher/grow.py", "models/telephone-en", "--out", str(grown)]
        subprocess.run([sys.executable, *grow], check=True)
    prompts = asked.demo / "prompts"
    train = [asked.demo / "train/train", *[prompts / "train"] * 4, asked.real / "so762/train", asked.real / "lj/train"]
    fit(grown, train, prompts / "dev", OUT / "start", steps=asked.start_steps, rate=6e-4)


def fit(model: Path, train: Iterable[Path], dev: Path, out: Path, *, steps: int, rate: float) -> float:
    """Fine-tune a model, and return the minutes that it took."""
    batches = BatchConfig(max_duration=STEP, augment=AugmentConfig(shift=1.0))
    config = TrainConfig(
        steps=steps, rate=rate, warmup=50, short_steps=0, average=0.98, validate_every=steps, batches=batches
    )
    given = {"dev": dev, "out": out, "config": config, "allow_outside": True}
    unfinished = out.with_name(f"{out.name}.run").exists()
    return trimbre.train(model, train=",".join(map(str, train)), resume=unfinished, **given).report["minutes"]


def fold_of(speakers: Iterable[str]) -> dict[str, int]:
    """The fold of each speaker: as many in each, by a hash of the name."""
    return {speaker: rank % FOLDS for rank, speaker in enumerate(sorted(set(speakers), key=place_of))}


def run(asked: argparse.Namespace, fold: int, clips: Sequence[MonoCut]) -> dict[str, Any]:
    """Train, prune and judge one fold: the errors of each of its clips by every model."""
    place = OUT / f"fold-{fold}"
    speaker = {cut.id: cut.supervisions[0].speaker for cut in clips}
    own = fold_of(speaker.values())
    judged = CutSet.from_cuts(cut for cut in clips if own[speaker[cut.id]] == fold)
    parts = {
        "an4": [cut for cut in clips if own[speaker[cut.id]] != fold],
        "voices": list(read_cuts(asked.demo / "train/train").subset(first=VOICES)),
    }
    for name, cuts in parts.items():
        (place / name).mkdir(parents=True, exist_ok=True)
        write_cuts(cuts, place / name)
    train = [*[place / "an4"] * REPEATS, place / "voices", *[asked.demo / "prompts/train"] * 2]
    minutes, dense = {}, place / "dense"
    if not dense.is_dir():
        fit(OUT / "start", train, asked.demo / "prompts/dev", dense, steps=asked.steps, rate=5e-4)
    minutes["dense"] = json.loads((dense / "train.json").read_text())["minutes"]
    models: dict[str, Any] = {"dense": load(dense).model}
    processor, reports = load(dense).processor, {}
    for name, share in SHARES.items():
        out, began = place / name, time.monotonic()
        unfinished = out.with_name(f"{out.name}.run").exists()
        result = trimbre.prune(
            dense,
            train=",".join(map(str, train)),
            out=out,
            remove=share,
            config=trimbre.PruneConfig(
                control=name == "half",
                seed=fold,
                recovery=RecoveryConfig(steps=asked.steps),
                batches=BatchConfig(max_duration=STEP, augment=AugmentConfig(shift=1.0)),
            ),
            allow_outside=True,
            resume=unfinished,
        )
        minutes[name] = (time.monotonic() - began) / 60
        models[name] = result.model
        if result.control is not None:
            models["control"] = result.control
        reports[name] = {key: result.report[key] for key in ("removed", "times_faster", "stages", "options")}
    found = {name: score(model=model, processor=processor, data=judged) for name, model in models.items()}
    first: Evaluation = found["dense"]
    return {
        "fold": fold,
        "steps": asked.steps,
        "clips": list(first.ids),
        "speakers": [speaker[id] for id in first.ids],
        "words": first.words.reference.tolist(),
        "errors": {name: one.words.per_sentence.tolist() for name, one in found.items()},
        "minutes": minutes,
        "runs": reports,
    }


def pooled(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Error rates over all folds, with the differences of the pruned models, in intervals over speakers."""
    words = np.concatenate([fold["words"] for fold in folds])
    speakers = [speaker for fold in folds for speaker in fold["speakers"]]
    errors = {name: np.concatenate([fold["errors"][name] for fold in folds]) for name in folds[0]["errors"]}
    rates = {}
    for name, one in errors.items():
        low, high = bootstrap_interval(one, words, speakers=speakers)
        rates[name] = {
            "errors": int(one.sum()),
            "percent": 100 * one.sum() / words.sum(),
            "interval": [100 * low, 100 * high],
        }
    return {
        "words": int(words.sum()),
        "clips": len(words),
        "speakers": len(set(speakers)),
        "steps": folds[0]["steps"],
        "rates": rates,
        "beside": {
            f"{name} beside {other}": bootstrap_difference(
                errors[name], errors[other], words, speakers=speakers
            ).to_json()
            for name in SHARES
            for other in ("control", "dense")
        },
        "removed": {name: folds[0]["runs"][name]["removed"] for name in SHARES},
        "times_faster": {name: [fold["runs"][name]["times_faster"]["median"] for fold in folds] for name in SHARES},
        "minutes": {name: [fold["minutes"][name] for fold in folds] for name in folds[0]["minutes"]},
    }


if __name__ == "__main__":
    main()
