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
    language: str | None = None,
    json: Json = False,
) -> int:
    """Import your own recordings, in any format, with or without transcripts.

    Parameters
    ----------
    source
        Folder with metadata.csv, .tsv or .jsonl (file_name and text), or with a .txt beside each file; or such a table.
    out
        Folder to write to.
    split
        Keep the splits that are there, else split what has transcripts into train, dev and test by a hash of them.
    language
        What is spoken where a table does not say it, such as de or German. Numbers are read in this language.
    """
    from trimbre.data.folder import folder as prepare

    return written(prepare(source=source, out=out, split=split, language=language), json)


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
    """Write a manifest into each part of a LibriSpeech tree, which can then be given as data.

    Parameters
    ----------
    source
        The LibriSpeech folder, or the folder that contains it (or will, with --download).
    parts
        Parts such as dev-clean or train-clean-5; all that are there by default.
    download
        Download the parts from openslr.org first; those of mini LibriSpeech by default.
    """
    from trimbre.data.librispeech import librispeech as prepare

    return written(prepare(source=source, parts=parts, download=download), json)


def written(made: Any, as_json: bool) -> int:
    """Print what a corpus contains."""
    from trimbre.report.terminal.corpora import corpus as summary

    return show(made.to_json(), as_json, *summary(made))
