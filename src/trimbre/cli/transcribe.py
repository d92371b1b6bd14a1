"""`trimbre transcribe`: text of audio files."""

from pathlib import Path

from trimbre.cli.console import Device, Json, app, show
from trimbre.errors import UserError


@app.command(
    help_epilogue="""Examples:

    trimbre transcribe half call.wav interview.mp3

    trimbre transcribe half call.wav --graph menu"""
)
def transcribe(
    model: str, /, *files: Path, graph: Path | None = None, device: Device = "auto", json: Json = False
) -> int:
    """Transcribe audio files, of any length and in any format that libsndfile or FFmpeg reads.

    Parameters
    ----------
    model
        Directory or Hub id.
    files
        Audio files.
    graph
        Decoding graph that trimbre graph wrote; greedy decoding by default.
    """
    from trimbre import api

    if not files:
        raise UserError("no audio file given: name one or more after the model")
    found = []
    for transcript in api.transcribe(model, files=files, graph=graph, device=device):
        found.append(transcript.to_json())
        if not json:
            print(f"{transcript.file}: {transcript.text}" if len(files) > 1 else transcript.text, flush=True)
    return show({"model": model, "transcripts": found}, json)
