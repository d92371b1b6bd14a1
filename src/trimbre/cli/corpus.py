"""`trimbre corpus`: manifests of speech for training and evaluation."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from trimbre.cli.console import Json, Seed, app, show, tell
from trimbre.errors import UserError

corpus = App(name="corpus", help="Prepare manifests of speech for training and evaluation.")
app.command(corpus)


@corpus.command(
    help_epilogue="""Example:

    trimbre corpus prompts --language en --out data/en"""
)
def prompts(*, out: Path, language: str = "en", seed: Seed = 0, json: Json = False) -> int:
    """Real telephone prompts with transcripts, from Debian's packages (CC BY-SA 3.0; needs apt, but no root).

    Parameters
    ----------
    out
        Folder to write train, dev and test to.
    language
        en, es or fr.
    """
    from trimbre.data.prompts import prompts as bring

    return written(bring(language=language, out=out), json)


@corpus.command(
    help_epilogue="""Examples:

    trimbre corpus voices --sentences texts.txt --out data/voices --fetch

    trimbre corpus voices --sentences texts.txt --out data/voices \\
        --voices "flite:*" "espeak-ng:en-gb*" --except flite:rms"""
)
def voices(
    *,
    sentences: Path,
    out: Path,
    voices: tuple[str, ...] = ("*",),
    except_: Annotated[tuple[str, ...], Parameter(name="--except")] = (),
    splits: tuple[str, ...] = (),
    whole: bool = False,
    limit: int | None = None,
    tract: float = 0.0,
    workers: int | None = None,
    fetch: bool = False,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Speech from the synthetic voices that are installed: espeak-ng, flite, festival, pico, piper.

    Parameters
    ----------
    sentences
        A text file, one sentence a line.
    out
        Folder to write to.
    voices
        Patterns of voices that may speak, such as flite:* or espeak-ng:en-gb+f?.
    except_
        Patterns of voices that may not.
    splits
        Speak only the sentences of these splits (train, dev, test), which a hash of each decides; of all by default.
    whole
        Write one set that isn't split, for texts that are never trained on.
    limit
        Speak only so many sentences.
    tract
        Lengthen or shorten each speaker's vocal tract by up to this share, so that few speakers become many.
    workers
        Processes that speak at once; as many as there are cores by default.
    fetch
        Bring espeak-ng and flite into the user's cache first, where they are not installed (needs apt, but no root).
    """
    from trimbre.data.splits import SPLITS
    from trimbre.data.voices import fetch_engines
    from trimbre.data.voices import voices as speak

    if whole and splits:
        raise UserError("--whole divides nothing, so --splits has nothing to choose from: give one of them")
    for lacking in fetch_engines() if fetch else ():
        tell(f"note: {lacking}")
    return written(
        speak(
            sentences=sentences,
            out=out,
            patterns=voices,
            excluded=except_,
            splits=splits or SPLITS,
            whole=whole,
            limit=limit,
            tract=tract,
            seed=seed,
            workers=workers,
        ),
        json,
    )


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
    help_epilogue="""Example:

    trimbre corpus readings --out data/readings"""
)
def readings(*, out: Path, seed: Seed = 0, json: Json = False) -> int:
    """Ten real read sentences to watch beside telephone speech, from a Debian package (needs apt, but no root).

    Parameters
    ----------
    out
        Folder to write to.
    """
    from trimbre.data.readings import readings as bring

    return written(bring(out=out), json)


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
