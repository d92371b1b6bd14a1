"""The verbs that work on models: inspect, train, prune, eval, transcribe."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trimbre.cli.console import DONE, MISSED, AllowOutside, Json, Seed, app, show, tell
from trimbre.cli.options import PruneFlags, TrainFlags
from trimbre.errors import UserError, at_least


@app.command(
    help_epilogue="""Examples:

    trimbre inspect models/telephone-en --verify

    trimbre inspect nvidia/parakeet-ctc-0.6b --json"""
)
def inspect(model: str, /, *, verify: bool = False, seed: Seed = 0, json: Json = False) -> int:
    """What can be cut from a model, and what each kind weighs.

    Parameters
    ----------
    model
        Directory or hub name.
    verify
        Cut the model by random plans and compare with the same model behind gates: masked equals sliced.
    """
    from trimbre import api as looking
    from trimbre.report.terminal import models

    found = looking.inspect(model=model, verify=verify, seed=seed)
    return show(found, json, *models.inspection(found))


@app.command(
    help_epilogue="""Examples:

    trimbre train --model config.json --train data/voices/train,data/en/train \\
        --dev data/en/dev --out models/mine

    trimbre train --model models/mine --train data/more --dev data/en/dev \\
        --steps 500 --rate 3e-4 --out models/more"""
)
def train(
    *,
    model: str,
    train: str,
    dev: str,
    out: Path,
    flags: TrainFlags = TrainFlags(),  # noqa: B008  frozen
    half: bool = False,
    allow_outside: AllowOutside = False,
    resume: bool = False,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Train a recogniser from nothing, by a config, or on from a checkpoint.

    Parameters
    ----------
    model
        Config file (JSON) to start from nothing, or directory or hub name of a checkpoint.
    train
        Manifest or folder with transcripts; several joined by commas.
    dev
        The same, to judge by.
    out
        Directory to write the model to.
    half
        Store the weights as float16; they load as float32.
    resume
        Go on with the run that was stopped.
    """
    from trimbre import runs

    found = runs.train(
        model=model,
        train=train,
        dev=dev,
        out=out,
        options=flags.config(seed),
        allow_outside=allow_outside,
        half=half,
        resume=resume,
    )
    _tell_unreadable(found)
    best = found["best"]
    judged = f", best WER on dev {best['wer']:.2%} at step {best['step']}" if best else ""
    return show(found, json, f"{out}: {found['steps']} steps in {found['minutes']:.1f} min{judged}")


@app.command(
    help_epilogue="""Examples:

    trimbre prune models/telephone-en --train data/voices/train \\
        --dev data/voices/dev --remove 0.5 --out half

    trimbre prune MODEL --train recordings/ --remove 0.3 --budget macs \\
        --protect attention --out smaller

    trimbre prune MODEL --train data/train --rtf 0.003 --table device.json --out fast

    trimbre prune MODEL --train data/train --dev data/dev \\
        --watch read=data/readings --remove 0.5 --out half --resume"""
)
def prune(
    model: str,
    /,
    *,
    train: str,
    out: Path,
    dev: str | None = None,
    watch: tuple[str, ...] = (),
    margin: float = 10.0,
    flags: PruneFlags = PruneFlags(),  # noqa: B008  frozen
    allow_outside: AllowOutside = False,
    dry_run: bool = False,
    resume: bool = False,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Prune a model: choose what to cut, cut it, verify the cut, refit, recover; the unpruned model teaches throughout.

    Exits with 1 if the target was missed or nothing was pruned.

    Parameters
    ----------
    model
        Directory or hub name.
    train
        Manifest or folder to learn from, several joined by commas; without transcripts the teacher alone teaches.
    out
        Directory to write the pruned model to.
    dev
        Manifest or folder with transcripts, to judge by.
    watch
        NAME=CUTS: speech unlike the training audio, judged beside dev. May be given several times.
    margin
        How much worse, in percent of the other's WER, may be called "not worse".
    dry_run
        Check everything and say what would be removed; write nothing but, to the cache, times that it goes by.
    resume
        Go on with the run that was stopped.
    """
    from trimbre import runs
    from trimbre.report.terminal import models

    at_least("margin", margin, 0)
    if dry_run and resume:
        raise UserError("--dry-run writes nothing and --resume goes on writing: give one of them")
    if watch and dev is None:
        raise UserError("--watch needs --dev beside it: give --dev CUTS")
    found = runs.prune(
        model=model,
        train=train,
        out=out,
        dev=dev,
        watch=watched(watch),
        options=flags.config(seed),
        margin_percent=margin,
        allow_outside=allow_outside,
        dry_run=dry_run,
        resume=resume,
    )
    if dry_run:
        return show(found, json, *models.preview(found))
    _tell_unreadable(found)
    show(found, json, *models.pruning(found, out))
    if found["missed"]:
        tell(found["missed"])
        return MISSED
    return DONE


@app.command(
    name="eval",
    help_epilogue="""Examples:

    trimbre eval half --data data/voices/test --against models/telephone-en

    trimbre eval half --data data/voices/test --json \\
        --watch prompts=data/en/test read=data/readings

    trimbre eval half --data data/voices/test --graph menu""",
)
def evaluate(
    model: str,
    /,
    *,
    data: str,
    against: str | None = None,
    watch: tuple[str, ...] = (),
    graph: Path | None = None,
    normalize: str = "basic",
    margin: float = 10.0,
    threads: int = 1,
    clips: int = 20,
    allow_outside: AllowOutside = False,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Error rates with intervals, size and speed of a model, beside another's if one is named.

    Parameters
    ----------
    model
        Directory or hub name.
    data
        Manifest or folder with transcripts; several joined by commas.
    against
        Directory or hub name of a model to compare with, sentence by sentence.
    watch
        NAME=CUTS: another set to judge on. May be given several times.
    graph
        Decode by what trimbre graph wrote; greedily by default.
    normalize
        How both sides are brought into one form: none, basic or whisper-en.
    margin
        How much worse, in percent of the other's WER, may be called "not worse".
    threads
        Threads that the real-time factor is measured with.
    clips
        Utterances that it is measured on; 0 measures none.
    """
    from trimbre import api as looking
    from trimbre.report.terminal.evaluation import evaluation
    from trimbre.report.terminal.times import real_time_table

    at_least("margin", margin, 0)
    at_least("threads", threads, 1)
    at_least("clips", clips, 0)
    judged = looking.evaluate(
        model=model,
        data=data,
        against=against,
        watch=watched(watch),
        graph=graph,
        normalize=normalize,
        margin_percent=margin,
        allow_outside=allow_outside,
    )
    found: dict[str, Any] = {"model": model, "data": data, "against": against, **judged.to_json()}
    shown: list[Any] = [*evaluation(found)]
    if clips > 0:
        named = {model: model} if against is None else {against: against, model: model}
        timed = looking.time_models(
            models=named, data=data, clips=clips, graph=graph, threads=threads, allow_outside=allow_outside
        )
        found["real_time"] = {way: one.to_json() for way, one in timed.items()}
        shown.append(real_time_table(timed))
    return show(found, json, *shown)


@app.command(
    help_epilogue="""Examples:

    trimbre transcribe half call.wav interview.mp3

    trimbre transcribe half call.wav --graph menu"""
)
def transcribe(model: str, /, *files: Path, graph: Path | None = None, seed: Seed = 0, json: Json = False) -> int:
    """Recognise audio files, of any length and in any format that libsndfile or FFmpeg reads.

    Parameters
    ----------
    model
        Directory or hub name.
    files
        Audio files.
    graph
        Decode by what trimbre graph wrote; greedily by default.
    """
    from trimbre import api as looking

    if not files:
        raise UserError("no audio file given: name one or more after the model")
    found = []
    for transcript in looking.transcribe(model=model, files=files, graph=graph):
        found.append(transcript.to_json())
        if not json:
            print(f"{transcript.file}: {transcript.text}" if len(files) > 1 else transcript.text, flush=True)
    return show({"model": model, "transcripts": found}, json)


def watched(words: Sequence[str]) -> dict[str, str]:
    """NAME=CUTS words as a mapping; raises UserError for another form."""
    watched = {}
    for word in words:
        name, equals, place = word.partition("=")
        if not (name and equals and place):
            raise UserError(f"--watch {word}: give NAME=CUTS, such as read=data/readings")
        watched[name] = place
    return watched


def _tell_unreadable(found: Mapping[str, Any]) -> None:
    """Say which utterances were left out, the first of them by name."""
    if unreadable := list(found["data"]["unreadable"]):
        named = ", ".join(unreadable[:5]) + (", ..." if len(unreadable) > 5 else "")
        tell(f"note: {len(unreadable)} utterances were left out because their audio cannot be read: {named}")
