"""Corpora from a folder of recordings: any format, any sampling rate, with or without transcripts."""

from collections.abc import Iterator
from pathlib import Path

from trimbre.data.audio import read_audio
from trimbre.data.corpus import Corpus, Utterance, write_corpus
from trimbre.data.cuts import AUDIO_FOLDER, metadata_rows, text_of_row
from trimbre.data.splits import split_of
from trimbre.errors import OptionError, UserError

AUDIO = frozenset(".wav .flac .ogg .opus .mp3 .m4a .aac .wma .aiff .aif .au .g722 .gsm .webm .mp4 .mka".split())


def folder(*, source: str | Path, out: str | Path, split: bool = True) -> Corpus:
    """Convert the recordings under `source` to a corpus in `out`, 16 kHz mono.

    Transcripts come from `metadata.csv` or `metadata.jsonl` (Hugging Face's AudioFolder: `file_name` and `text` or
    `transcription`), else from a `.txt` file beside a recording. What has none is unlabelled audio.

    Args:
        split: divide what has transcripts into train, dev and test by a hash of the transcript.

    Raises:
        UserError: there is no such folder, or nothing usable in it.
    """
    source = Path(source)
    if not source.is_dir():
        raise OptionError("source", str(source), "there is no such folder: name the one that holds the recordings")
    found = _listed(source) if any((source / name).is_file() for name in AUDIO_FOLDER) else _walked(source)
    return write_corpus(
        _utterances(source, found, split=split),
        out,
        source=str(source),
        licence="the recordings' own",
    )


def _listed(source: Path) -> Iterator[tuple[str, str | None]]:
    metadata = next(source / name for name in AUDIO_FOLDER if (source / name).is_file())
    for number, row in enumerate(metadata_rows(metadata), start=1):
        name = row.get("file_name")
        if not name or not isinstance(name, str):
            raise UserError(f"{metadata}, row {number}: no file_name (columns: {', '.join(map(str, row))})")
        yield str(name), text_of_row(row)


def _walked(source: Path) -> Iterator[tuple[str, str | None]]:
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in AUDIO and path.is_file():
            beside = path.with_suffix(".txt")
            yield str(path.relative_to(source)), _transcript(beside) if beside.is_file() else None


def _transcript(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the transcript {path}: {error}") from error


def _utterances(source: Path, found: Iterator[tuple[str, str | None]], *, split: bool) -> Iterator[Utterance | str]:
    for number, (name, text) in enumerate(found):
        try:
            clip = read_audio(source / name)
        except UserError as error:
            yield str(error)
            continue
        if not len(clip):
            yield f"{source / name} holds no audio"
            continue
        text = (text or "").strip() or None
        stem = "".join(letter if letter.isalnum() else "-" for letter in str(Path(name).with_suffix("")))
        # The name of a file may have 255 bytes, a letter up to four.
        yield Utterance(f"{number:06d}-{stem[-50:]}", clip, text, split_of(text) if split and text else None)
