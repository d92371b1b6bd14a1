"""`trimbre transcribe`: text of audio files."""

from pathlib import Path

from trimbre.cli.console import BAD_INPUT, DONE, MISSED, Device, Json, Language, app, list_printed, tell
from trimbre.errors import UserError


@app.command(
    help_epilogue="""Examples:

    trimbre transcribe half call.wav interview.mp3

    trimbre transcribe half call.wav --graph menu

    trimbre transcribe whisper-base call.wav --language de --task translate"""
)
def transcribe(
    model: str,
    /,
    *files: Path,
    graph: Path | None = None,
    language: Language = None,
    task: str | None = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Transcribe audio files, of any length and in any format that libsndfile or FFmpeg reads.

    A file that cannot be read is named on stderr, and the others are transcribed. The exit code is then 1, and 2 where
    none could be read.

    Parameters
    ----------
    model
        Directory, or OWNER/NAME[@REVISION] on the Hub.
    files
        Audio files.
    graph
        Decoding graph that trimbre graph wrote; greedy decoding by default.
    task
        transcribe, or translate (into English, for multilingual Whispers and Canary); the preset task by default.
    """
    from trimbre import api

    if not files:
        raise UserError("no audio file given: name one or more after the model")
    read = 0
    transcripts = api.transcribe(model, files=files, graph=graph, language=language, task=task, device=device)
    with list_printed({"model": model}, "transcripts", json) as write:
        for transcript in transcripts:
            write(transcript.to_json())
            if transcript.error is not None:
                tell(transcript.error)
                continue
            read += 1
            if not json:
                print(f"{transcript.file}: {transcript.text}" if len(files) > 1 else transcript.text, flush=True)
    if read == len(files):
        return DONE
    return MISSED if read else BAD_INPUT
