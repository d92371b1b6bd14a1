"""`trimbre prune`: a smaller model."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trimbre.cli.console import DATA, DONE, MISSED, AllowOutside, Device, Json, Margin, Seed, app, show, tell
from trimbre.cli.notes import note_left_out, watched
from trimbre.cli.options import RUN, PruneFlags
from trimbre.errors import UserError


@app.command(
    group_parameters=DATA,
    help_epilogue="""Examples:

    trimbre prune models/telephone-en --train data/voices/train \\
        --dev data/voices/dev --remove 0.5 --out half

    trimbre prune MODEL --train data/mine --remove 0.3 --budget macs \\
        --protect attention --out smaller

    trimbre prune MODEL --train data/train --rtf 0.003 --table device.json \\
        --out fast

    trimbre prune MODEL --train data/train --dev data/dev \\
        --watch read=data/readings --remove 0.5 --out half --resume""",
)
def prune(
    model: str,
    /,
    *,
    train: str,
    out: Path,
    dev: str | None = None,
    watch: tuple[str, ...] = (),
    vocabulary: str | None = None,
    margin: Margin = 10.0,
    dry_run: bool = False,
    resume: bool = False,
    allow_outside: AllowOutside = False,
    device: Annotated[Device, Parameter(group=RUN)] = "auto",
    seed: Annotated[Seed, Parameter(group=RUN)] = 0,
    flags: PruneFlags = PruneFlags(),  # noqa: B008  frozen
    json: Json = False,
) -> int:
    """Prune a model: choose what to cut, cut it, verify the cut, refit and recover, with the dense model as teacher.

    Exits with 1 if the target was missed or nothing was pruned.

    Parameters
    ----------
    model
        Directory, or OWNER/NAME[@REVISION] on the Hub.
    train
        Training data: manifest or folder, several joined by commas; transcripts are optional.
    out
        Directory to write the pruned model to.
    dev
        Transcribed data to evaluate on, in validation and at the end.
    watch
        NAME=CUTS: a further evaluation set, such as speech out of domain. May be given several times.
    vocabulary
        Remove the rows of a Whisper's vocabulary that its language never uses. Text files or data, joined by commas,
        that show what it uses, beside the transcripts of --train.
    dry_run
        Validate inputs and print what would be removed, without training or writing a model.
    resume
        Continue the run that was stopped.
    """
    from trimbre import api
    from trimbre.report.terminal import models

    if dry_run and resume:
        raise UserError("--dry-run writes nothing and --resume continues to write: give one of them")
    if watch and dev is None:
        raise UserError("--watch needs --dev beside it: give --dev CUTS")
    given = {
        "train": train,
        "dev": dev,
        "watch": watched(watch),
        "vocabulary": vocabulary,
        "config": flags.config(seed),
        "allow_outside": allow_outside,
        "device": device,
    }
    if dry_run:
        found = api.preview(model, **given)  # type: ignore[arg-type]
        return show(found, json, *models.preview(found))
    report = api.prune(model, out=out, margin_percent=margin, resume=resume, **given).report  # type: ignore[arg-type]
    note_left_out(report)
    show(report, json, *models.pruning(report, out))
    if report["missed"]:
        tell(report["missed"])
        return MISSED
    return DONE
