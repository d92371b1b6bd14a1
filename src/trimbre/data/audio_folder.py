"""Recordings that a table beside them lists: Hugging Face's AudioFolder, Common Voice, LJ Speech, NeMo's manifests."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lhotse import AudioSource, Recording, SupervisionSegment
from lhotse.cut import MonoCut

from trimbre.data.audio import SAMPLE_RATE, recording_of
from trimbre.data.columns import AUDIO, TEXT, canonical
from trimbre.data.outside import refuse_outside
from trimbre.data.tables import Row, columns_of, read_table
from trimbre.data.unreadable import UnreadableClips
from trimbre.errors import UserError

METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
"""Tables that are read with their folder."""
SPLIT_WORDS = frozenset(
    "train training dev devel development valid validation val test testing eval evaluation".split()
)
"""Names of folders that are splits of a data set."""
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet", ".xlsx", ".xls", ".ods", ".trans", ".stm")
"""Endings of files in which the transcripts of a folder may stand."""
TOLERANCE = 0.1
"""Seconds that a part may end after its recording: durations in tables are rounded."""


@dataclass(frozen=True)
class Listed:
    """A recording that a table lists."""

    audio: Path
    id: str
    """Its path from the table's folder; with where it begins in the file, for a part of one."""
    row: Row
    place: str
    """Table and line, for messages."""

    @property
    def split(self) -> str | None:
        """The split that its row states, else the folder named as one that it lies in."""
        return self.row.split or split_in(Path(self.id).parent)


@dataclass(frozen=True)
class Missing:
    """A recording that a table lists and that is not there."""

    id: str
    row: Row
    reason: str
    """A sentence that names the table, the line and the file."""


def split_in(folder: Path) -> str | None:
    """The outermost folder of a path that is named as a split; None where none is."""
    return next((part for part in folder.parts if part.casefold() in SPLIT_WORDS), None)


def metadata_of(folder: Path) -> list[Path]:
    """The tables of a folder that are read with it, whatever the case of their names."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in entries if entry.name.lower() in METADATA and entry.is_file())


def nested_metadata(folder: Path) -> list[Path]:
    """The tables of a folder's sub-folders, down to two levels, as an AudioFolder with splits has them."""
    places = _subfolders(folder)
    places += [inner for place in places for inner in _subfolders(place)]
    return [table for place in places for table in metadata_of(place)]


def audio_folder(table: Path, *, allow_outside: bool = False) -> list[MonoCut]:
    """Cuts of the recordings that a table lists; audio paths in it are relative to its folder.

    One that is missing or cannot be read has a cut all the same, of a second, whose audio is refused on loading: so it
    counts as it does in a manifest.

    Raises:
        UserError: a row has more than one meaning or lies outside the folder, or more than 1 % cannot be read.
    """
    splits: dict[str, None] = {}
    cuts: list[MonoCut] = []
    unreadable: dict[str, str] = {}
    for one in listed(table, allow_outside=allow_outside):
        if isinstance(one, Missing):
            cuts.append(_stand_in(one.id, table.parent / one.row.files[0], one.row))
            unreadable[one.id] = one.reason
            continue
        splits |= {} if one.split is None else {one.split: None}
        if len(splits) > 1:
            raise UserError(
                f"{table} lists the splits {', '.join(splits)}, which should not be mixed: make a corpus of it first, "
                f"which keeps them apart (trimbre corpus folder {table.parent})"
            )
        try:
            recording = recording_of(one.audio, id=one.id)
        except UserError as error:
            cuts.append(_stand_in(one.id, one.audio, one.row))
            unreadable[one.id] = f"{one.place}: {error}"
        else:
            cuts.append(_cut(one, recording))
    UnreadableClips(len(cuts), str(table)).note(unreadable)
    return cuts


def listed(table: Path, *, allow_outside: bool = False) -> Iterator[Listed | Missing]:
    """The recordings that a table lists, each once.

    Raises:
        UserError: a row has more than one meaning, or names audio outside the folder.
    """
    files = _Files(table.parent)
    seen: dict[tuple[Path, float | None], Row] = {}
    for row in read_table(table):
        place = f"{table}, line {row.line}"
        if not allow_outside:
            for name in row.files:
                files.refuse_outside(name, place)
        found = list(dict.fromkeys(path for name in row.files if (path := files.find(name, place))))
        if len(found) > 1:
            raise UserError(f"{place}: it names both {found[0]} and {found[1]}, keep one of the columns")
        if not found:
            yield Missing(_named(row.files[0], row), row, f"{place}: no audio file {table.parent / row.files[0]}")
            continue
        first = seen.setdefault((found[0], row.start), row)
        if (first.text, first.seconds) != (row.text, row.seconds):
            other = "text" if first.text != row.text else "length"
            raise UserError(f"{place}: {row.files[0]} has another {other} in line {first.line}, keep one of them")
        if first is row:
            yield Listed(found[0], _id(found[0], table.parent, row), row, place)


def overlooked(folder: Path, used: Sequence[Path] = ()) -> str:
    """Where the transcripts of a folder may stand that has none: a clause that names its tables and their columns.

    Args:
        used: tables that were read, and have no column of transcripts.
    """
    tables = [path for path in used if not any(canonical(column) in TEXT for column in columns_of(path))]
    tables += [path for path in _tables_in(folder) if path not in used]
    if not tables:
        return ""
    shown = [f"{path}{_columns(path)}" for path in tables[:3]]
    return f"{' and '.join(shown)}, of which none was read for transcripts"


def overlooked_beside(cuts: Iterable[Any]) -> str:
    """The same for cuts without transcripts, by the folder of their audio and the one above, to end a sentence with."""
    first = next(iter(cuts), None)
    sources = first.recording.sources if isinstance(first, MonoCut) and first.recording else ()
    for folder in [place for source in sources if source.type == "file" for place in Path(source.source).parents[:2]]:
        if folder.is_dir() and (found := overlooked(folder, metadata_of(folder))):
            return f"; there is {found}"
    return ""


class _Files:
    """The files of a folder, by names as people write them."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, name: str, place: str) -> Path | None:
        """The file of that name; else the only recording that it can mean; None where there is none.

        Raises:
            UserError: it can mean several.
        """
        spellings = list(dict.fromkeys([name, name.replace("\\", "/")]))
        for spelling in spellings:
            if os.path.isfile(self.folder / spelling):
                return self.folder / spelling
        for spelling in spellings:
            key = _key(os.path.normpath(spelling))
            for names in (self._names, self._stems):
                if matching := [
                    path for path, whole in names[key.rpartition("/")[2]] if f"/{whole}".endswith(f"/{key}")
                ]:
                    if len(matching) > 1:
                        raise UserError(f"{place}: {name} may be {matching[0]} or {matching[1]}, give the path in full")
                    return matching[0]
        return None

    def refuse_outside(self, name: str, place: str) -> None:
        """Raise OptionError for a name that leads out of the folder."""
        folder = self.folder.absolute()
        try:
            refuse_outside(folder / name, folder, place)
        except UserError:
            raise
        except (OSError, ValueError) as error:  # too long, or with a null character
            raise UserError(f"{place}: no file can have the name {name[:60]!r}") from error

    @cached_property
    def _recordings(self) -> list[tuple[Path, str]]:
        """Every recording under the folder, with its path from there as a key."""
        return [
            (Path(where) / name, _key(os.path.relpath(os.path.join(where, name), self.folder)))
            for where, _, names in os.walk(self.folder)
            for name in sorted(names)
            if Path(name).suffix.lower() in AUDIO
        ]

    @cached_property
    def _names(self) -> dict[str, list[tuple[Path, str]]]:
        """(file, its path as a key) by the key of its name alone."""
        found = defaultdict(list)
        for path, key in self._recordings:
            found[key.rpartition("/")[2]].append((path, key))
        return found

    @cached_property
    def _stems(self) -> dict[str, list[tuple[Path, str]]]:
        """The same without the endings."""
        found = defaultdict(list)
        for path, key in self._recordings:
            stem = key.removesuffix(path.suffix.lower())
            found[stem.rpartition("/")[2]].append((path, stem))
        return found


def _key(name: str) -> str:
    """A path without what file systems and tables spell differently: case, composed letters, a leading `./`."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).lower().removeprefix("./")


def _id(audio: Path, folder: Path, row: Row) -> str:
    name = audio.relative_to(folder).as_posix() if audio.is_relative_to(folder) else row.files[0]
    return _named(name, row)


def _named(name: str, row: Row) -> str:
    return f"{name}-{row.start:g}" if row.start else name


def _cut(one: Listed, recording: Recording) -> MonoCut:
    """A cut of a recording, or of the part of it that a row states."""
    cut, row = recording.to_cut(), one.row
    if row.start is not None:
        start, seconds = part_of(one, recording.duration)
        cut = cut.truncate(offset=start, duration=seconds).with_id(one.id)
    return _told(cut, row)


def _stand_in(id: str, audio: Path, row: Row) -> MonoCut:
    """A cut of a file that cannot be read: of a second, for want of its length."""
    source = AudioSource("file", [0], str(audio))
    return _told(Recording(id, [source], SAMPLE_RATE, SAMPLE_RATE, 1.0).to_cut(), row)


def _told(cut: MonoCut, row: Row) -> MonoCut:
    """The cut with what its row says of it."""
    if (row.text, row.speaker, row.language) != (None, None, None):
        told = {"text": row.text, "speaker": row.speaker, "language": row.language}
        cut.supervisions = [SupervisionSegment(cut.id, cut.recording_id, 0, cut.duration, **told)]
    return cut


def part_of(one: Listed, seconds: float) -> tuple[float, float]:
    """Where a listed part of a recording of so many `seconds` begins, and how long it is.

    Raises:
        UserError: the recording ends before it.
    """
    start = one.row.start or 0.0
    length = seconds - start if one.row.seconds is None else one.row.seconds
    if start + length > seconds + TOLERANCE or length <= 0:
        raise UserError(f"{one.place}: {one.audio} has {seconds:g} s, correct the part of it that is stated")
    return start, min(length, seconds - start)


def _tables_in(folder: Path) -> list[Path]:
    """Files in a folder, or one level below, that may hold transcripts of it: not those beside a single recording."""
    found = []
    for place in [folder, *_subfolders(folder)]:
        files = sorted(path for path in place.iterdir() if path.is_file())
        recordings = {path.stem for path in files if path.suffix.lower() in AUDIO}
        found += [
            path
            for path in files
            if path.suffix.lower() in TABLE_SUFFIXES
            and path.stem not in recordings
            and not path.name.lower().startswith(("readme", "license", "corpus.json"))
        ]
    return found


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _columns(path: Path) -> str:
    """The columns of a table in brackets, for messages; nothing where it has none."""
    columns = columns_of(path) if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".json") else []
    return f" (columns: {', '.join(columns)})" if columns else ""
