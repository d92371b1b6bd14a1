"""Reading and writing cuts: lhotse manifests, Hugging Face's AudioFolder, and lhotse's Shar."""

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from lhotse import CutSet, Recording, SupervisionSegment
from lhotse.cut import Cut, MonoCut
from lhotse.serialization import deserialize_item

from trimbre.data.audio_folder import METADATA, SPLIT_WORDS, audio_folder, metadata_of, nested_metadata, overlooked
from trimbre.data.columns import AUDIO, FILE, indices
from trimbre.data.hub_sets import fetched, hub_set
from trimbre.data.outside import outside, refuse_outside
from trimbre.data.tables import SUFFIXES as TABLES
from trimbre.data.tables import unrepeated
from trimbre.errors import OptionError, UserError, reason
from trimbre.files import written_whole

MANIFEST = "cuts.jsonl.gz"
SUFFIXES = (".jsonl", ".jsonl.gz")
SHARDS = "cuts.[0-9]*.jsonl*"
CutsLike: TypeAlias = str | Path | Sequence[str | Path] | CutSet | Sequence[Cut]
"""Utterances as public functions take them: paths, joined by commas or in a sequence, or cuts in memory."""


def read_cuts(data: CutsLike, *, option: str = "data", allow_outside: bool = False, repeated: bool = True) -> CutSet:
    """Cuts from a manifest, a folder that holds one, a table of recordings or its folder, or lhotse's Shar.

    Manifests are read lazily, again at every pass. Audio paths in them are relative to the manifest's folder. Cuts in
    memory are taken as they are.

    Args:
        data: one path or several, in a sequence or joined by commas (one that exists may have commas in it); a CutSet;
            or a sequence of cuts. In place of a path, the name of a data set of Hugging Face (`trimbre.data.hub_sets`).
        option: the argument that it was given by, for messages.
        allow_outside: let a manifest name audio outside its own folder. One from a stranger could have any file of this
            machine read.
        repeated: take a path that is given twice for a set that counts twice, which training may want.

    Raises:
        OptionError: nothing that can be read is there, a path leads outside, or one is repeated and may not be.
        UserError: a manifest is damaged; also while its cuts are read.
    """
    if isinstance(data, CutSet):
        return data
    if isinstance(data, str | Path):
        return _read_paths(paths_in(str(data)), str(data), option, allow_outside, repeated)
    if not isinstance(data, Sequence):
        raise OptionError(option, type(data), "give a path, a CutSet of lhotse or a sequence of its cuts")
    cuts = list(data)
    if cuts and all(isinstance(one, str | Path) for one in cuts):
        return _read_paths([str(one) for one in cuts], cuts, option, allow_outside, repeated)
    for number, cut in enumerate(cuts):
        if not isinstance(cut, Cut) or not cut.has_recording or not cut.duration > 0:
            raise OptionError(
                option, type(cut), f"item {number} is no lhotse cut with a recording (join paths by commas)"
            )
    return CutSet.from_cuts(cuts)


def write_cuts(cuts: Iterable[MonoCut], folder: str | Path) -> Path:
    """Write `folder/cuts.jsonl.gz`, atomically, with audio paths relative to `folder`."""
    folder = Path(folder)
    path = folder / MANIFEST
    with written_whole(path) as beside, gzip.open(beside, "wt", encoding="utf-8") as file:
        for cut in cuts:
            data = cut.to_dict()
            for source in data["recording"]["sources"]:
                audio = Path(source["source"])
                if audio.is_absolute() and audio.is_relative_to(folder.absolute()):
                    source["source"] = str(audio.relative_to(folder.absolute()))
            file.write(json.dumps(data, ensure_ascii=False) + "\n")
    return path


def transcript_of(cut: Any) -> str | None:
    """The transcript of a cut, of all its segments in order of time; None where one or all of them lack it."""
    texts = [segment.text for segment in sorted(cut.supervisions, key=lambda segment: segment.start)]
    return None if not texts or None in texts else " ".join(texts)


def speaker_of(cut: Any) -> str | None:
    """The speaker of a cut; None where a segment states none, or two state different ones."""
    found = {segment.speaker for segment in cut.supervisions}
    speaker = found.pop() if len(found) == 1 else None
    return None if speaker in (None, "") else str(speaker)  # manifests may have numbers, from 0 on


def cut_of(
    audio: Path,
    *,
    id: str,
    text: str | None,
    samples: int,
    speaker: str | None = None,
    language: str | None = None,
) -> MonoCut:
    """A cut of a whole 16 kHz mono file of so many `samples`, which is not opened."""
    rate = 16_000
    source = {"type": "file", "channels": [0], "source": str(audio)}
    recording = Recording.from_dict(
        {
            "id": id,
            "sources": [source],
            "sampling_rate": rate,
            "num_samples": samples,
            "duration": samples / rate,
        }
    )
    segments = (
        []
        if (text, speaker, language) == (None, None, None)
        else [SupervisionSegment(id, id, 0, samples / rate, text=text, speaker=speaker, language=language)]
    )
    return MonoCut(id, 0, samples / rate, 0, supervisions=segments, recording=recording)


class _Manifest:
    """A manifest that is read line by line at every pass; audio paths are resolved against its folder."""

    def __init__(self, path: Path, allow_outside: bool):
        self.path = path
        self.folder = path.parent.absolute()
        self.allow_outside = allow_outside

    def __iter__(self) -> Iterator[Any]:
        opener = gzip.open if self.path.suffix == ".gz" else open
        number = 0
        known: set[int] = set()  # hashes: a manifest may have millions of ids
        try:
            with opener(self.path, "rb") as file:
                for number, line in enumerate(file, start=1):
                    if text := line.decode("utf-8-sig" if number == 1 else "utf-8").strip():
                        cut = self._cut(text, number)
                        if (key := hash(str(cut.id))) in known:
                            advice = f"the id {cut.id!r} stands in an earlier line too, give each utterance its own"
                            raise UserError(f"{self.path}, line {number}: {advice}")
                        known.add(key)
                        yield cut
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}, line {number}: not UTF-8, save the file in the encoding UTF-8") from error
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"cannot read {self.path}: {reason(error)}") from error

    def _cut(self, line: str, number: int) -> Any:
        try:
            data = json.loads(line, object_pairs_hook=unrepeated)
            for source in _sources(data):
                if source["type"] == "file":
                    audio = self.folder / source["source"]
                    if not self.allow_outside:
                        refuse_outside(audio, self.folder, f"{self.path}, line {number}")
                    source["source"] = str(audio)
                elif source["type"] != "memory" and not self.allow_outside:  # lhotse would run a command as it is
                    raise outside(f"{self.path}, line {number}: the audio comes from a {source['type']}")
            cut = deserialize_item(data)
            if not isinstance(cut, Cut) or not cut.has_recording or not cut.duration > 0:
                raise ValueError("it has no recording or no length")
            return cut
        except OptionError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
            raise UserError(f"{self.path}, line {number}: not a cut that lhotse reads ({reason(error)})") from error


class _Shards:
    """A folder in lhotse's Shar form, read shard by shard at every pass: manifests, and the audio in tar files."""

    def __init__(self, folder: Path, allow_outside: bool):
        self.folder = folder
        self.allow_outside = allow_outside

    def __iter__(self) -> Iterator[Any]:
        manifests = sorted(self.folder.glob(SHARDS))
        tars = [self.folder / f"recording.{path.name.split('.')[1]}.tar" for path in manifests]
        for tar in tars:
            if not tar.is_file():
                raise UserError(f"the folder {self.folder} lacks {tar.name}: a shard needs its audio beside its cuts")
        try:
            for cut in CutSet.from_shar(fields={"cuts": manifests, "recording": tars}):
                if not self.allow_outside and any(source.type != "memory" for source in _sources_read(cut)):
                    raise outside(f"{self.folder}: the audio of {cut.id} lies outside its shard")
                yield cut
        except UserError:
            raise
        except Exception as error:  # lhotse's reader raises whatever its archive and its lines do
            raise UserError(f"cannot read the shards of {self.folder}: {reason(error)}") from error


def _sources(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every audio source in a serialised cut, with those of a mixed cut's tracks."""
    yield from (data.get("recording") or {}).get("sources", ())
    for track in data.get("tracks", ()):
        yield from _sources(track["cut"])


def _sources_read(cut: Any) -> Iterator[Any]:
    """Every audio source of a cut, with those of a mixed cut's tracks; padding has none."""
    for part in [track.cut for track in getattr(cut, "tracks", ())] or [cut]:
        if part.has_recording:
            yield from part.recording.sources


def paths_in(given: str) -> list[str]:
    """The paths in a string that joins them by commas; a comma belongs to a path where one of that name exists."""
    parts, paths = given.split(","), []
    while parts:
        ends = range(len(parts), 1, -1)
        end = next((end for end in ends if os.path.exists(",".join(parts[:end]).strip())), 1)
        paths.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return [path for path in paths if path]


def _read_paths(paths: Sequence[str], given: Any, option: str, allow_outside: bool, repeated: bool) -> CutSet:
    """The cuts of several paths."""
    if not paths:
        raise OptionError(option, given, "give the path of a manifest or a folder")
    named = {path: found for path in paths if not os.path.exists(path) and (found := hub_set(path, option=option))}
    for path in paths:
        if path not in named and not os.path.exists(path):
            of = f" (in {given!r})" if len(paths) > 1 and isinstance(given, str) else ""
            raise OptionError(option, path, f"there is no such file{of}: give the path of a manifest or a folder")
    local = {path: fetched(named[path], option=option) if path in named else Path(path) for path in paths}
    if not repeated:
        places: dict[str, str] = {}
        for path in paths:
            first = places.setdefault(_place(local[path]), path)
            if first is not path:
                again = "it is given twice" if first == path else f"it is the same set as {first}"
                raise OptionError(option, path, f"{again}, and every utterance would count twice: give it once")
    sets = [_read(local[path], option, allow_outside) for path in paths]
    joined = sets[0]
    for other in sets[1:]:
        joined = joined + other
    return joined


def _place(path: Path) -> str:
    """The file that is read for a path, links followed: a folder's manifest or only table."""
    if path.is_dir():
        tables = metadata_of(path)
        path = path / MANIFEST if (path / MANIFEST).is_file() else tables[0] if len(tables) == 1 else path
    return os.path.realpath(path)


def _read(path: Path, option: str, allow_outside: bool) -> CutSet:
    if path.is_dir():
        if (path / MANIFEST).is_file():
            return CutSet(_Manifest(path / MANIFEST, allow_outside))
        tables = metadata_of(path)
        if not tables and any(path.glob(SHARDS)):
            return CutSet(_Shards(path, allow_outside))
        if len(tables) == 1 and not nested_metadata(path):
            return CutSet.from_cuts(audio_folder(tables[0], allow_outside=allow_outside))
        raise OptionError(option, str(path), _why_unread(path))
    if path.suffix.lower() in TABLES and not _is_manifest(path):
        return CutSet.from_cuts(audio_folder(path, allow_outside=allow_outside))
    if not path.name.endswith(SUFFIXES):
        if path.suffix.lower() in AUDIO:
            raise OptionError(
                option,
                str(path),
                "this is a recording: give a table that names recordings and their transcripts, such as metadata.csv "
                "with the columns file_name and text, or a manifest (trimbre transcribe takes recordings alone)",
            )
        known = ", ".join((*SUFFIXES, ".csv", ".tsv"))
        raise OptionError(option, str(path), f"the name of a manifest or table should end in one of {known}")
    return CutSet(_Manifest(path, allow_outside))


def _is_manifest(path: Path) -> bool:
    """Whether a file has cuts of lhotse, and not the rows of a table, as its first line tells."""
    if path.suffix.lower() != ".jsonl":
        return False
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = json.loads(next((line for line in file if line.strip()), "0"))
    except (OSError, ValueError, RecursionError):
        return True
    return not isinstance(first, dict) or not indices(list(first), FILE)


def _why_unread(folder: Path) -> str:
    """What is wrong with a folder that is no data set, and what to do."""
    tables, nested = metadata_of(folder), nested_metadata(folder)
    if len(tables) > 1:
        return f"it holds {' and '.join(path.name for path in tables)}: name one of them, {tables[0]}"
    inside = [path.parent for path in (*nested, *sorted(folder.glob(f"*/{MANIFEST}")))]
    if inside:
        names = ", ".join(place.relative_to(folder).as_posix() for place in inside)
        kind = "splits" if all(place.name.casefold() in SPLIT_WORDS for place in inside) else "data sets"
        also = f"a {tables[0].name} of its own and " if tables else ""
        return f"it has {also}the {kind} {names}: name one, {tables[0] if tables else inside[0]}"
    if found := overlooked(folder):
        return f"it holds neither {MANIFEST} nor {', '.join(METADATA)}, but {found}: name one of them"
    return (
        f"this folder holds neither {MANIFEST} nor shards nor {' nor '.join(METADATA)}: make a corpus of it first "
        "(trimbre corpus folder)"
    )
