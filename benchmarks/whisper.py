"""Cross-validated error rates of a pruned Whisper: real prompts in domain, synthetic voices out of domain.

python benchmarks/whisper.py tiny.en --dense --out runs/half-a-whisper
OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 benchmarks/whisper.py tiny.en --remove 0.5 \
  --recover-steps 1650 --batches 32 --varied 1500 --out runs/half-a-whisper

The English prompts are divided into folds by a hash of their sentences. The model of a fold is pruned on the prompts of
the other folds and on further audio, and evaluated on its own fold. Every fold writes a file to --out; once all exist,
their errors are pooled. The speech comes from recipes/teacher/train.sh and

python recipes/corpora/prompts.py --language es --out data/es
python recipes/corpora/prompts.py --language fr --out data/fr
python recipes/corpora/voices.py --sentences data/unseen.txt --whole --voices flite:rms festival:ked_diphone
  --limit 300 --seed 5 --out data/clear
python recipes/whisper/sentences.py --out data/fortunes.txt
python recipes/corpora/voices.py --sentences data/fortunes.txt --splits train
  --except flite:rms "festival:*" "piper:*" --limit 5000 --seed 6 --out data/fortunes
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from lhotse import CutSet, MonoCut
from lhotse.utils import fastcopy

import trimbre
from trimbre.config import AugmentConfig, BatchConfig, DistillationConfig, GateConfig, PruneConfig, RecoveryConfig
from trimbre.data.cuts import read_cuts, transcript_of, write_cuts
from trimbre.data.splits import place_of
from trimbre.evaluation.bootstrap import bootstrap_difference
from trimbre.evaluation.evaluate import evaluate_sets
from trimbre.evaluation.resampling import resampled_sums
from trimbre.files import write_json
from trimbre.models.loading import load
from trimbre.training.distributed import main_process_threads
from trimbre.training.loop import accelerator_for
from trimbre.training.resume import run_folder

NORMALIZE = "whisper-en"
VOICES = 3000
"""Utterances of synthetic voices in the training data."""
STEP = 60.0
"""Seconds of audio in a step over all processes: two windows."""
REPEATS = 6
"""Times that the prompts, which are few, are repeated in an epoch."""


def main() -> None:
    """Prune and evaluate the folds asked for, and pool their errors once all are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("--prompts", default="data/en/train,data/en/dev,data/en/test")
    parser.add_argument("--unlabelled", default="data/es/train,data/fr/train", help="used without transcripts")
    parser.add_argument("--more", default="data/readings,data/fortunes/train", help="cased and punctuated transcripts")
    parser.add_argument("--varied", type=int, help="utterances of each part of --more, at most; all by default")
    parser.add_argument("--voices", default="data/voices/train")
    parser.add_argument("--watch", default="data/clear", help="voices and texts out of domain, to evaluate on")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--fold", type=int, nargs="*", help="folds to run; all by default")
    parser.add_argument("--dense", action="store_true", help="evaluate the dense model")
    parser.add_argument("--remove", type=float, default=0.5)
    parser.add_argument("--budget", default="both")
    parser.add_argument("--method", default="curvature")
    parser.add_argument("--learn-steps", type=int, default=300, help="steps of gate training, for methods that train")
    parser.add_argument("--recover-steps", type=int, default=1500)
    parser.add_argument("--rate", type=float, help="learning rate; scaled to the weights by default")
    parser.add_argument(
        "--batches", type=int, default=16, help="calibration batches of two windows, for scores and refit"
    )
    parser.add_argument("--text", default="transcripts")
    parser.add_argument("--out", type=Path, default=Path("runs/whisper"))
    asked = parser.parse_args()
    for place in (asked.prompts, asked.unlabelled, asked.more, asked.voices, asked.watch):
        read_cuts(place)  # raises for missing data before anything runs
    asked.out.mkdir(parents=True, exist_ok=True)
    dense = asked.out / "dense.json"
    if not asked.dense:
        for fold in range(asked.folds) if asked.fold is None else asked.fold:
            file = asked.out / f"fold-{fold}.json"
            if not file.is_file() and (found := run(asked, fold)):
                write_json(file, found)
    elif not dense.is_file():
        write_json(dense, evaluate(asked.model, read_cuts(asked.prompts), asked.watch))
    files = [asked.out / f"fold-{fold}.json" for fold in range(asked.folds)]
    if PartialState().is_main_process and all(file.is_file() for file in (dense, *files)):
        show(json.loads(dense.read_text()), [json.loads(file.read_text()) for file in files])


def run(asked: Any, fold: int) -> dict[str, Any] | None:
    """Prune on all folds but one and evaluate on that one; None in all processes but the main one."""
    accelerator = accelerator_for("auto")
    inside: list[MonoCut] = []
    outside: list[MonoCut] = []
    for cut in read_cuts(asked.prompts):
        own = int(place_of(transcript_of(cut) or "", language="en") * asked.folds) == fold
        (inside if own else outside).append(cut)
    parts = {
        "prompts": outside,
        "voices": map(as_written, read_cuts(asked.voices).subset(first=VOICES)),
        "unlabelled": (fastcopy(cut, supervisions=[]) for cut in read_cuts(asked.unlabelled)),
        "more": chain(*(islice(read_cuts(place), asked.varied) for place in asked.more.split(","))),
    }
    out = asked.out / f"model-{fold}"
    unfinished = run_folder(out).exists()
    if accelerator.is_main_process:
        for name, cuts in parts.items():
            (asked.out / f"{name}-{fold}").mkdir(exist_ok=True)
            write_cuts(cuts, asked.out / f"{name}-{fold}")
    accelerator.wait_for_everyone()
    prompts, *rest = (str(asked.out / f"{name}-{fold}") for name in parts)
    start = time.monotonic()
    report = trimbre.prune(
        asked.model,
        train=",".join([*[prompts] * REPEATS, *rest]),
        out=out,
        config=PruneConfig(
            asked.remove,
            budget=asked.budget,
            of="encoder-blocks",
            method=asked.method,
            calibration_batches=asked.batches,
            save_every=200,
            gates=GateConfig(steps=asked.learn_steps, weight_rate=asked.rate),
            distillation=DistillationConfig(text=asked.text),
            recovery=RecoveryConfig(steps=asked.recover_steps, rate=asked.rate, refit_batches=asked.batches),
            batches=BatchConfig(
                max_duration=STEP / accelerator.num_processes, normalize=NORMALIZE, augment=AugmentConfig.none()
            ),
        ),
        allow_outside=True,
        resume=unfinished,
    ).report
    if not accelerator.is_main_process:
        return None
    minutes = (time.monotonic() - start) / 60
    kept = ("removed", "widths", "stages", "times_faster", "audio_seconds", "options")
    with main_process_threads(accelerator):
        found = evaluate(str(out), CutSet.from_cuts(inside), asked.watch)
    return found | {key: report[key] for key in kept} | {"minutes": minutes}


def as_written(cut: MonoCut) -> MonoCut:
    """Capitalise a lower-case transcript and end it with a full stop, as Whisper writes text."""
    text = transcript_of(cut) or ""
    written = fastcopy(cut.supervisions[0], text=f"{text[:1].upper()}{text[1:]}.", language="en")
    return fastcopy(cut, supervisions=[written])


def evaluate(model: str, prompts: CutSet, watch: str) -> dict[str, Any]:
    """Errors of each sentence of the prompts and of the watched set."""
    found = evaluate_sets(
        recogniser=load(model), data=prompts, name="prompts", watch={"watched": watch}, normalize=NORMALIZE
    )
    return {
        name: {
            "ids": list(one.evaluation.ids),
            "errors": one.evaluation.words.per_sentence.tolist(),
            "words": one.evaluation.words.reference.tolist(),
        }
        for name, one in found.sets.items()
    }


def show(dense: dict[str, Any], folds: Sequence[dict[str, Any]]) -> None:
    """Pool the folds' prompts, average their errors on the watched set, and compare both with the dense model's."""
    of_dense = dict(zip(dense["prompts"]["ids"], dense["prompts"]["errors"], strict=True))
    rows = [
        (errors, of_dense[id], words)
        for fold in folds
        for id, errors, words in zip(*(fold["prompts"][key] for key in ("ids", "errors", "words")), strict=True)
    ]
    watched = np.mean([fold["watched"]["errors"] for fold in folds], axis=0)
    sets = {
        "prompts": np.array(rows, dtype=float),
        "watched": np.stack([watched, dense["watched"]["errors"], dense["watched"]["words"]], 1).astype(float),
    }
    for name, values in sets.items():
        pruned, unpruned, words = values.T
        sums = resampled_sums(values)
        error = float((sums[:, 0] / sums[:, 2]).std())
        total = words.sum()
        print(
            f"{name}: {len(values)} utterances, {total:.0f} words: dense {100 * unpruned.sum() / total:.2f} %, "
            f"pruned {100 * pruned.sum() / total:.2f} % (standard error {100 * error:.2f}); "
            f"{bootstrap_difference(pruned, unpruned, words).sentence}"
        )
    removed = folds[0]["removed"]
    shares = ", ".join(f"{name} {removed[name]['encoder-blocks']:.1%}" for name in removed)
    faster = [fold["times_faster"]["median"] for fold in folds]
    print(f"removed of the encoder's blocks: {shares}; minutes a fold: {[round(f['minutes'], 1) for f in folds]}")
    print(f"whole model, 10 s of noise in PyTorch: {faster} times faster than the dense one", file=sys.stderr)


if __name__ == "__main__":
    main()
