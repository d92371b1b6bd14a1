"""`trimbre eval`: error rates and size, and speed where it is asked for."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from trimbre.cli.console import AllowOutside, Device, Json, Language, Margin, app, show
from trimbre.cli.notes import watched
from trimbre.errors import OptionError, at_least


@app.command(
    name="eval",
    help_epilogue="""Examples:

    trimbre eval half --data data/voices/test --against models/telephone-en

    trimbre eval half --data data/voices/test --json \\
        --watch prompts=data/en/test read=data/readings

    trimbre eval half --data data/voices/test --graph menu

    trimbre eval half --data data/voices/test --show 10 \\
        --hypotheses half.tsv

    trimbre eval half --data open-asr:librispeech-clean \\
        --normalize open-asr --clips 20""",
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
    language: Language = None,
    task: str | None = None,
    margin: Margin = 10.0,
    show_worst: Annotated[int, Parameter(name="--show")] = 0,
    hypotheses: Path | None = None,
    clips: int = 0,
    threads: int = 1,
    allow_outside: AllowOutside = False,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Word error rates with intervals and size of a model, beside another model's if one is named.

    Parameters
    ----------
    model
        Directory, or OWNER/NAME[@REVISION] on the Hub.
    data
        Transcribed data: manifest or folder, several joined by commas; or hf:OWNER/NAME:CONFIG:SPLIT on the Hub, or a
        set of the Open ASR Leaderboard, such as open-asr:librispeech-clean.
    against
        Directory or name on the Hub of a model to compare with, sentence by sentence.
    watch
        NAME=CUTS: a further evaluation set. May be given several times.
    graph
        Decoding graph that trimbre graph wrote; greedy decoding by default.
    normalize
        Text normalisation of transcripts and hypotheses: none, basic, whisper, whisper-en or open-asr.
    task
        transcribe, or translate (into English, for multilingual Whispers and Canary); the preset task by default.
    show_worst
        Print so many utterances of each set with the most errors: reference and hypothesis as they were compared.
    hypotheses
        Write reference, hypothesis and errors of every utterance to this file, .jsonl or .tsv.
    clips
        Measure the real-time factor too, on so many utterances; 20 are a good number.
    threads
        Threads of the CPU that it is measured with.
    """
    from trimbre import api
    from trimbre.evaluation.hypotheses import refuse_hypotheses, write_hypotheses
    from trimbre.report.terminal.evaluation import evaluation
    from trimbre.report.terminal.times import real_time_table
    from trimbre.report.terminal.utterances import worst_utterances
    from trimbre.runs.timing import real_time_factors

    at_least("threads", threads, 1)
    at_least("clips", clips, 0)
    at_least("show", show_worst, 0)
    if threads != 1 and not clips:
        raise OptionError("threads", threads, "they are for the real-time factor alone: give --clips too")
    if hypotheses is not None:
        refuse_hypotheses(hypotheses)
    report = api.evaluate(
        model,
        data=data,
        against=against,
        watch=watched(watch),
        graph=graph,
        normalize=normalize,
        language=language,
        task=task,
        margin_percent=margin,
        allow_outside=allow_outside,
        device=device,
    )
    if hypotheses is not None:
        write_hypotheses(report, hypotheses)
    figures = report.to_json(utterances=json)
    found: dict[str, Any] = {"model": model, "data": data, "against": against, **figures}
    shown: list[Any] = [*evaluation(found)]
    if show_worst:
        shown += ["", *worst_utterances(report.sets, show_worst)]
    if clips > 0:
        timed = real_time_factors(
            {model: model} if against is None else {against: against, model: model},
            data=data,
            clips=clips,
            graph=graph,
            threads=threads,
            allow_outside=allow_outside,
            device=device,
        )
        found["real_time"] = {name: one.to_json() for name, one in timed.items()}
        shown.append(real_time_table(timed))
    return show(found, json, *shown)
