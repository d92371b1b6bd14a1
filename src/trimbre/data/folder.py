"""Corpora from a folder of recordings: any format, any sampling rate, with or without transcripts."""

import mimetypes
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trimbre.data.audio import SAMPLE_RATE, read_audio
from trimbre.data.audio_folder import (
    Listed,
    Missing,
    listed,
    metadata_of,
    nested_metadata,
    overlooked,
    part_of,
    split_in,
)
from trimbre.data.columns import AUDIO
from trimbre.data.corpus import Corpus, Utterance, write_corpus
from trimbre.data.language import code_of, is_unknown, stated_language
from trimbre.data.splits import split_of
from trimbre.data.tables import SUFFIXES as TABLES
from trimbre.data.tables import decoded
from trimbre.data.text import normalise
from trimbre.errors import OptionError, UserError
from trimbre.files import refuse_existing


@dataclass(frozen=True)
class _Recording:
    """A recording to bring in."""

    audio: Path
    name: str
    """Its path from the folder."""
    text: str | None
    split: str | None
    """As the folder or its table divides it already."""
    listed: Listed | None = None


def folder(*, source: str | Path, out: str | Path, split: bool = True, language: str | None = None) -> Corpus:
    """Convert the recordings under `source` to a corpus in `out`, 16 kHz mono.

    Transcripts come from a table (`metadata.csv`, `.tsv` or `.jsonl`; `trimbre.data.tables` has its columns), else from
    a `.txt` file beside a recording. An empty one says that nothing is spoken; what has none is unlabelled audio.

    Args:
        source: the folder, or a table of recordings beside it.
        split: keep the splits of `source`, a column `split` or folders such as `train` and `test`; where there are
            none, divide what has transcripts into train, dev and test by a hash of the transcript.
        language: what is spoken where the table does not say it, as a code such as `de` or an English name.

    Raises:
        UserError: there is no such language or folder, a table of it has a row of more than one meaning, or nothing is
            usable.
    """
    language = stated_language(language)
    source = Path(source)
    refuse_existing(out)
    tables = _tables(source)
    found = list(_listed(source, tables) if tables else _walked(source))
    recordings = [one for one in found if isinstance(one, _Recording)]
    kept = len({one.split for one in recordings if one.split}) > 1
    notes = _notes(source, tables, recordings)
    return write_corpus(
        _utterances(found, kept=kept, split=split, language=language),
        out,
        source=str(source),
        licence="the recordings' own",
        notes=notes,
    )


def _tables(source: Path) -> list[Path]:
    """The tables that list the recordings: the source itself, the one in it, or those of its sub-folders."""
    if source.is_file() and source.suffix.lower() in TABLES:
        return [source]
    if not source.is_dir():
        raise OptionError("source", str(source), "there is no such folder: name the one that holds the recordings")
    tables, nested = metadata_of(source), nested_metadata(source)
    if len(tables) > 1 or (tables and nested):
        named = " and ".join(path.relative_to(source).as_posix() for path in [*tables, *nested][:3])
        raise OptionError("source", str(source), f"it holds {named}: name one of them, {tables[0]}")
    return tables or nested


def _listed(source: Path, tables: Sequence[Path]) -> Iterator[_Recording | str]:
    root = source if source.is_dir() else source.parent
    for table in tables:
        place = table.parent.relative_to(root)
        for one in listed(table, allow_outside=True):
            if isinstance(one, Missing):
                yield one.reason
            else:
                yield _Recording(one.audio, str(place / one.id), one.row.text, split_in(place) or one.split, one)


def _walked(source: Path) -> Iterator[_Recording]:
    texts = {}
    recordings = []
    for where, folders, names in os.walk(source):
        folders.sort()
        for name in names:
            path = Path(where) / name
            if path.suffix.lower() == ".txt":
                texts[path.with_suffix("")] = path
            elif path.suffix.lower() in AUDIO:
                recordings.append(path)
    for path in sorted(recordings):
        beside = texts.get(path.with_suffix(""))
        place = path.relative_to(source)
        text = None if beside is None else decoded(beside).strip()
        yield _Recording(path, str(place), text, split_in(place.parent))


def _utterances(
    found: Sequence[_Recording | str], *, kept: bool, split: bool, language: str | None
) -> Iterator[Utterance | str]:
    for number, one in enumerate(found):
        if isinstance(one, str):
            yield one
            continue
        try:
            clip = read_audio(one.audio)
            if one.listed is not None and one.listed.row.start is not None:
                start, seconds = part_of(one.listed, len(clip) / SAMPLE_RATE)
                clip = clip[round(start * SAMPLE_RATE) : round((start + seconds) * SAMPLE_RATE)]
        except UserError as error:
            yield str(error)
            continue
        if not len(clip):
            yield f"{one.audio} holds no audio"
            continue
        stem = "".join(letter if letter.isalnum() else "-" for letter in str(Path(one.name).with_suffix("")))
        row = None if one.listed is None else one.listed.row
        spoken = (row.language if row else None) or language
        yield Utterance(
            f"{number:06d}-{stem[-50:]}",  # the name of a file may have 255 bytes, a letter up to four
            clip,
            one.text,
            None if not split else one.split if kept else _split(one, code_of(spoken)),
            None if row is None else row.speaker,
            spoken,
        )


def _split(one: _Recording, language: str | None) -> str | None:
    """The split of a recording with a transcript, which is in this language; silences are divided by their names."""
    if one.text is None:
        return None
    return split_of(one.text if normalise(one.text, language=language) else one.name, language=language)


def _notes(source: Path, tables: Sequence[Path], recordings: Sequence[_Recording]) -> list[str]:
    """What a user should know of the recordings that are brought in, and of those that are not."""
    root = source if source.is_dir() else source.parent
    notes = []
    if recordings and all(one.text is None for one in recordings):
        found = overlooked(root, tables)
        notes += [f"no recording has a transcript; there is {found}"] if found else []
    if silent := sum(one.text == "" for one in recordings):
        notes.append(f"{silent} of {len(recordings)} recordings have an empty transcript: nothing is spoken in them")
    stated = Counter(one.listed.row.language for one in recordings if one.listed and one.listed.row.language)
    for language, count in stated.items():
        if is_unknown(language):
            notes.append(
                f"{count} of {len(recordings)} recordings state the language {language!r}, of which nothing is known: "
                "correct it, or their texts are compared as written"
            )
    taken = {one.audio for one in recordings}
    audio, odd = [], []
    for where, _, names in os.walk(root):
        for path in (Path(where) / name for name in sorted(names)):
            if path.suffix.lower() in AUDIO:
                audio += [] if path in taken else [path]
            elif (mimetypes.guess_type(path.name)[0] or "").startswith(("audio/", "video/")):
                odd.append(path)
    if tables and audio:
        notes.append(f"{_named(audio)} passed over: no row of {' or '.join(map(str, tables))} lists it")
    if odd:
        notes.append(f"{_named(odd)} passed over: to use it, convert it to .wav, .flac or .mp3")
    return notes


def _named(paths: Sequence[Path]) -> str:
    return f"{paths[0]} is" if len(paths) == 1 else f"{len(paths)} recordings are ({paths[0]} and others)"
