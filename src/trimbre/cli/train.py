"""`trimbre train`: a model from scratch, or on from a checkpoint."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trimbre.cli.console import DATA, AllowOutside, Device, Json, Seed, app, show
from trimbre.cli.notes import note_left_out
from trimbre.cli.options import RUN, TrainFlags


@app.command(
    group_parameters=DATA,
    help_epilogue="""Examples:

    trimbre train --model config.json --train data/voices/train,data/en/train \\
        --dev data/en/dev --out models/mine

    trimbre train --model models/mine --train data/more --dev data/en/dev \\
        --steps 500 --rate 3e-4 --out models/more""",
)
def train(
    *,
    model: str,
    train: str,
    dev: str,
    out: Path,
    half: bool = False,
    resume: bool = False,
    allow_outside: AllowOutside = False,
    device: Annotated[Device, Parameter(group=RUN)] = "auto",
    seed: Annotated[Seed, Parameter(group=RUN)] = 0,
    flags: TrainFlags = TrainFlags(),  # noqa: B008  frozen
    json: Json = False,
) -> int:
    """Train a model from scratch, by a config file, or continue from a checkpoint.

    Parameters
    ----------
    model
        Config file (JSON) to train from scratch, or a checkpoint: a directory, or OWNER/NAME[@REVISION] on the Hub.
    train
        Training data with transcripts: manifest or folder, several joined by commas.
    dev
        Transcribed data to validate on.
    out
        Directory to write the model to.
    half
        Store the weights as float16; they load as float32.
    resume
        Continue the run that was stopped.
    """
    from trimbre import api

    report = api.train(
        model,
        train=train,
        dev=dev,
        out=out,
        config=flags.config(seed),
        half=half,
        allow_outside=allow_outside,
        resume=resume,
        device=device,
    ).report
    note_left_out(report)
    best = report["best"]
    rate = f", best error rate on dev {best['wer']:.2%} at step {best['step']}" if best else ""
    return show(report, json, f"{out}: {report['steps']} steps in {report['minutes']:.1f} min{rate}")
