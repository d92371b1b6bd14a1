"""The main job on the shipped recogniser, from nothing to a smaller model: what `make demo` runs.

It brings recorded telephone prompts and synthetic voices, prunes models/telephone-en by half, trains the unpruned model
for as many steps as a control, and compares both with the model as it came, on speech that none of them was trained on.
Every step is a command that can be typed. What was done before is passed over, so an interrupted demo goes on when it
is started again. Where there is no apt to bring recordings, one synthetic voice from PyPI does with less.
"""

import os
import shutil
import sys
from pathlib import Path

import commands
import screen
import speech
from commands import DEMO, HALF, SENTENCE, TIMED, Failed
from stages import Stage, run_all

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run the demo and return the exit code: that of the first command that failed."""
    os.chdir(ROOT)
    DEMO.mkdir(exist_ok=True)
    real = shutil.which("apt-get") is not None
    train, sets = speech.training_sets(real=real), speech.test_sets(real=real)
    pruning = [
        Stage(
            f"pruning by half: {commands.STEPS} steps of recovery, and as many for the control",
            seconds=450,
            products=[HALF],
            work=lambda: commands.prune(train=train, dev=speech.DEV, watch=sets),
        ),
        Stage(
            "timing both models",
            seconds=25,
            products=[TIMED],
            work=lambda: commands.time_both(sets.get("prompts", next(iter(sets.values())))),
        ),
        Stage(
            "transcribing one sentence with both",
            seconds=12,
            products=[*SENTENCE.values()],
            work=lambda: commands.transcribe(speech.one_sentence(sets).file),
        ),
    ]
    try:
        run_all([*speech.stages(real=real), *pruning])
        screen.show(sets=sets, sentence=speech.one_sentence(sets))
    except Failed as failed:
        return failed.code
    except KeyboardInterrupt:
        print("\nStopped. `make demo` goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
