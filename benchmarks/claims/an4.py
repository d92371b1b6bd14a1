"""Cross-validated error rates on AN4's 84 speakers: each clip is judged by models that never trained on its speaker.

make demo                                                        # brings prompts and synthetic voices
python recipes/teacher/real.py --speech SPEECH --out data/real   # AN4, speechocean762 and LJ Speech
OMP_NUM_THREADS=1 python benchmarks/claims/an4.py                # goes on where it stopped; --fold 0 2 4 does some

All folds start from one model that knows no speaker of AN4: models/telephone-en, grown to eight blocks and trained on
everything else. The dense model of a fold is this one, fine-tuned on the speakers of the other folds. It is pruned by
half and by three quarters, and its control trains as long on the same audio. `runs/an4/fold-*.json` has the errors of
every clip; pooled, they are written to benchmarks/claims/an4.json, two rows for `python benchmarks/claims table`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from lhotse import CutSet, MonoCut

sys.path.append(str(Path(__file__).resolve().parents[1] / "demo"))

from making import counted
from rows import CROSSED, Claim
from summary import claimed

import trimbre
from trimbre.config import AugmentConfig, BatchConfig, RecoveryConfig, TrainConfig
from trimbre.data.cuts import read_cuts, speaker_of, write_cuts
from trimbre.data.splits import place_of
from trimbre.errors import UserError
from trimbre.evaluation.bootstrap import bootstrap_difference, bootstrap_interval
from trimbre.evaluation.resampling import resampled, speakers_in
from trimbre.files import write_json
from trimbre.report.formatting import rate
from trimbre.training.resume import run_folder

OUT = Path("runs/an4")
POOLED = Path("benchmarks/claims") / CROSSED
FOLDS = 7
SHARES = {"half": 0.5, "quarter": 0.75}
TITLES = {"half": "half", "quarter": "three quarters"}
CLAIMS = {"half": Claim("an4", "control", percent=10), "quarter": Claim("an4", "control", points=1)}
STEP = 32.0
"""Seconds of audio in a step."""
BATCHES = BatchConfig(max_duration=STEP, augment=AugmentConfig(shift=1.0))
REPEATS = 6
"""Times that AN4, which is small, is repeated in an epoch."""
VOICES = 2000
"""Sentences of synthetic voices among the training data of a fold."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the folds asked for, and pool all of them once they are there; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fold", type=int, nargs="*", choices=range(FOLDS), help="folds to run; all by default")
    parser.add_argument("--steps", type=int, default=400, help="of fine-tuning, and of recovery")
    parser.add_argument("--start-steps", type=int, default=500, help="of training the model that all folds start from")
    parser.add_argument("--demo", type=Path, default=Path("demo"))
    parser.add_argument("--real", type=Path, default=Path("data/real"))
    asked = parser.parse_args(arguments)
    try:
        for fold in range(FOLDS) if asked.fold is None else asked.fold:
            if not fold_file(fold).is_file():
                start = make_start(asked.demo, asked.real, steps=asked.start_steps)
                write_json(fold_file(fold), run(fold, start, asked.demo, asked.real / "an4", steps=asked.steps))
        files = [file for file in map(fold_file, range(FOLDS)) if file.is_file()]
        folds = [json.loads(file.read_text()) for file in files]
        for file, fold in zip(files, folds, strict=True):
            refuse_other(file, fold["steps"], asked.steps, option="--steps")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if len(folds) == FOLDS:
        found = pooled(folds)
        write_json(POOLED, found)
        print("\n".join(table(found)))
    return 0


def fold_file(fold: int) -> Path:
    """Where the errors of a fold's clips are written."""
    return OUT / f"fold-{fold}.json"


def refuse_other(made: Path, found: int, asked: int, *, option: str) -> None:
    """Raise UserError where what is there was trained for another number of steps than is asked."""
    if found != asked:
        raise UserError(f"{made} was made by {found} steps: remove it, or give {option} {found}")


def make_start(demo: Path, real: Path, *, steps: int) -> Path:
    """Grow the shipped recogniser to eight blocks and train it on all speech but AN4, where that is not done."""
    grown, start = OUT / "grown", OUT / "start"
    if not start.is_dir() and not grown.is_dir():
        grow = ["recipes/teacher/grow.py", "models/telephone-en", "--out", str(grown)]
        subprocess.run([sys.executable, *grow], check=True)
    prompts = demo / "prompts"
    train = [demo / "train/train", *[prompts / "train"] * 4, real / "so762/train", real / "lj/train"]
    fit(grown, train, prompts / "dev", start, steps=steps, rate=6e-4, option="--start-steps")
    return start


def fit(model: Path, train: Iterable[Path], dev: Path, out: Path, *, steps: int, rate: float, option: str) -> None:
    """Fine-tune a model, where that is not done."""
    if out.is_dir():
        stated = json.loads((out / "train.json").read_text())["options"]["steps"]
        refuse_other(out, stated, steps, option=option)
        return
    config = TrainConfig(
        steps=steps, rate=rate, warmup=50, short_steps=0, average=0.98, validate_every=steps, batches=BATCHES
    )
    given = {"dev": dev, "out": out, "config": config, "allow_outside": True}
    with counted(out.with_name("minutes.json"), out.name):
        trimbre.train(model, train=list(train), resume=run_folder(out).exists(), **given)


def prune(dense: Path, train: Sequence[Path], judged: Path, out: Path, *, steps: int, seed: int) -> None:
    """Prune the dense model of a fold by the share that `out` is named after, where that is not done, and judge it.

    The half has the control, which trains as long whatever the share.
    """
    if out.is_dir():
        stated = json.loads((out / "prune.json").read_text())["options"]["recovery"]["steps"]
        refuse_other(out, stated, steps, option="--steps")
        return
    config = trimbre.PruneConfig(
        remove=SHARES[out.name],
        control=out.name == "half",
        seed=seed,
        recovery=RecoveryConfig(steps=steps),
        validate_every=steps,
        batches=BATCHES,
    )
    given = {"dev": judged, "out": out, "config": config, "allow_outside": True}
    with counted(out.with_name("minutes.json"), out.name):
        trimbre.prune(dense, train=list(train), resume=run_folder(out).exists(), **given)


def fold_of(speakers: Iterable[str]) -> dict[str, int]:
    """The fold of each speaker: as many in each, by a hash of the name."""
    return {speaker: rank % FOLDS for rank, speaker in enumerate(sorted(set(speakers), key=place_of))}


def run(fold: int, start: Path, demo: Path, an4: Path, *, steps: int) -> dict[str, Any]:
    """Train, prune and judge one fold: the errors of each of its clips by every model."""
    place = OUT / f"fold-{fold}"
    parts = divided(fold, [cut for split in ("train", "dev", "test") for cut in read_cuts(an4 / split)])
    parts["voices"] = list(read_cuts(demo / "train/train").subset(first=VOICES))
    for name, cuts in parts.items():
        (place / name).mkdir(parents=True, exist_ok=True)
        write_cuts(CutSet.from_cuts(cuts), place / name)
    train = [*[place / "an4"] * REPEATS, place / "voices", *[demo / "prompts/train"] * 2]
    fit(start, train, demo / "prompts/dev", place / "dense", steps=steps, rate=5e-4, option="--steps")
    for name in SHARES:
        prune(place / "dense", train, place / "judged", place / name, steps=steps, seed=fold)
    reports = {name: json.loads((place / name / "prune.json").read_text()) for name in SHARES}
    found = {name: report["evaluation"]["sets"]["dev"] for name, report in reports.items()}
    others = found["half"]["references"]
    judged = {"dense": others["dense"], "half": found["half"], "control": others["control"], **found}
    judged_by = sorted(parts["judged"], key=lambda cut: cut.id)
    return {
        "fold": fold,
        "steps": steps,
        "clips": [cut.id for cut in judged_by],
        "speakers": [speaker_of(cut) for cut in judged_by],
        "words": counts(found["half"], "words"),
        "errors": {name: counts(one, "errors") for name, one in judged.items()},
        "minutes": json.loads((place / "minutes.json").read_text()),
        "runs": {
            name: {key: report[key] for key in ("removed", "times_faster", "stages", "options")}
            for name, report in reports.items()
        },
    }


def divided(fold: int, clips: Sequence[MonoCut]) -> dict[str, list[MonoCut]]:
    """The clips that a fold is judged on, and those of all other speakers, which it trains on."""
    own = fold_of(speaker_of(cut) for cut in clips)
    return {
        "judged": [cut for cut in clips if own[speaker_of(cut)] == fold],
        "an4": [cut for cut in clips if own[speaker_of(cut)] != fold],
    }


def counts(judged: Mapping[str, Any], kind: str) -> list[int]:
    """Errors or words of each sentence of a set, in the order of ids."""
    return [int(number) for number in judged["sentences"][kind].split()]


def pooled(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row for each share, as `summary` gives them: error rates over all folds, with intervals over speakers."""
    words = np.concatenate([fold["words"] for fold in folds])
    speakers = [speaker for fold in folds for speaker in fold["speakers"]]
    errors = {name: np.concatenate([fold["errors"][name] for fold in folds]) for name in folds[0]["errors"]}
    rates = {}
    for name, one in errors.items():
        ends = bootstrap_interval(one, words, speakers=speakers)
        rates[name] = {
            "percent": round(100 * one.sum() / words.sum(), 4),
            "interval": [round(100 * end, 4) for end in ends],
            "resampled": resampled(speakers),
            "errors": int(one.sum()),
            "reference": int(words.sum()),
        }
    rows = []
    for name in SHARES:
        beside = {
            other: bootstrap_difference(errors[name], errors[other], words, speakers=speakers).to_json()
            for other in ("dense", "control")
        }
        judged = {"rate": "wer", "utterances": len(words), "speakers": speakers_in(speakers), "beside": beside}
        judged["rates"] = {"dense": rates["dense"], "control": rates["control"], "pruned": rates[name]}
        runs, sets = [fold["runs"][name] for fold in folds], {"an4": judged}
        recovery = [run["stages"]["recover"] for run in runs]
        faster = [run["times_faster"]["median"] for run in runs]
        spread = {"median": median(faster), "low": min(faster), "high": max(faster)}
        rows.append(
            {
                "name": f"an4-{name}",
                "title": f"Conformer of 8 blocks, {TITLES[name]}, {len(folds)} folds",
                "command": "python benchmarks/claims/an4.py",
                "removed": {cost: over(runs, cost) for cost in ("params", "macs")},
                "steps": folds[0]["steps"],
                "minutes": {"recovery": mean(stage["minutes"] for stage in recovery)},
                "hours": mean(stage["audio_seconds"] for stage in recovery) / 3600,
                "share_of_hours_taught": None,
                "sets": sets,
                "times": {"float32, PyTorch": {"utterances": {"times_faster": spread}}},
                "claims": [claimed(CLAIMS[name], sets)],
            }
        )
    minutes = {name: [fold["minutes"][name] for fold in folds] for name in ("dense", *SHARES)}
    return {"rows": rows, "minutes": minutes}


def over(runs: Sequence[Mapping[str, Any]], cost: str) -> dict[str, float]:
    """The mean share of a cost that the runs removed, by scope."""
    return {scope: mean(run["removed"][cost][scope] for run in runs) for scope in runs[0]["removed"][cost]}


def table(found: Mapping[str, Any]) -> Iterator[str]:
    """Lines of Markdown, as README.md and docs/results.md have them."""
    rows = found["rows"]
    judged = [row["sets"]["an4"] for row in rows]
    first = judged[0]
    both = [rate(first["rates"][name]) for name in ("dense", "control")]
    words = f"WER in %, {first['rates']['dense']['reference']:,} words, {first['speakers']} speakers"
    removed = (
        ", ".join(f"{100 * row['removed'][cost]['blocks']:.1f} %" for cost in ("params", "macs")) for row in rows
    )
    ways = (row["times"]["float32, PyTorch"]["utterances"] for row in rows)
    faster = (f"{way['times_faster']['median']:.2f} times" for way in ways)
    yield line("", "dense", "control", *(f"{TITLES[name]} gone" for name in SHARES))
    yield f"|{'---|' * (3 + len(SHARES))}"
    yield line(words, *both, *(rate(one["rates"]["pruned"]) for one in judged))
    yield line("beside the control", "", "", *(one["beside"]["control"]["sentence"] for one in judged))
    yield line("beside the dense model", "", "", *(one["beside"]["dense"]["sentence"] for one in judged))
    yield line("parameters and multiply-accumulates removed, of the blocks", "", "", *removed)
    yield line("speed, PyTorch on one thread, audio to text", "1", "1", *faster)


def line(*cells: str) -> str:
    """A row of a Markdown table."""
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


if __name__ == "__main__":
    sys.exit(main())
