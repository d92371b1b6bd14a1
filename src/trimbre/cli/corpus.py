"""`trimbre corpus`: manifests of speech for training and evaluation."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from trimbre.cli.console import Json, app, show

corpus = App(name="corpus", help="Prepare manifests of speech for training and evaluation.")
app.command(corpus)


@corpus.command(
    help_epilogue="""Example:

    trimbre corpus folder recordings/ --out data/mine"""
)
def folder(
    source: Path,
    /,
    *,
    out: Path,
    split: Annotated[bool, Parameter(negative="--no-split")] = True,
    json: Json = False,
) -> int:
    """Your own recordings, in any format, with or without transcripts.

    Parameters
    ----------
    source
        Folder with metadata.csv or metadata.jsonl (file_name; text or transcription), or with a .txt beside each file.
    out
        Folder to write to.
    split
        Divide what has transcripts into train, dev and test by a hash of the transcript.
    """
    from trimbre.data.folder import folder as bring

    return written(bring(source=source, out=out, split=split), json)


@corpus.command(
    help_epilogue="""Examples:

    trimbre corpus librispeech ~/corpora/LibriSpeech

    trimbre corpus librispeech data --download --parts train-clean-5 dev-clean-2"""
)
def librispeech(
    source: Path,
    /,
    *,
    parts: tuple[str, ...] = (),
    download: bool = False,
    json: Json = False,
) -> int:
    """A LibriSpeech tree: a manifest is written into each of its parts, which can then be given as data.

    Parameters
    ----------
    source
        The tree, or the folder that holds it (or is to hold it) as LibriSpeech.
    parts
        Which parts, such as dev-clean or train-clean-5; all that are there by default.
    download
        Bring the parts from openslr.org first; those of mini LibriSpeech by default.
    """
    from trimbre.data.librispeech import librispeech as bring

    return written(bring(source=source, parts=parts, download=download), json)


def written(made: Any, as_json: bool) -> int:
    """Say what a corpus holds."""
    from trimbre.report.corpora import corpus as told

    return show(made.to_json(), as_json, *told(made))
