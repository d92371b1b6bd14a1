"""Reading and writing cuts: lhotse manifests, Hugging Face's AudioFolder, and lhotse's Shar."""

import csv
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from lhotse import CutSet, Recording, SupervisionSegment
from lhotse.cut import Cut, MonoCut
from lhotse.serialization import deserialize_item

from trimbre.errors import OptionError, UserError
from trimbre.files import written_whole

MANIFEST = "cuts.jsonl.gz"
SUFFIXES = (".jsonl", ".jsonl.gz")
SHARDS = "cuts.[0-9]*.jsonl*"
AUDIO_FOLDER = ("metadata.csv", "metadata.jsonl")
CutsLike: TypeAlias = str | Path | CutSet | Sequence[Cut]
"""Utterances as public functions take them: paths, joined by commas, or cuts in memory."""


def read_cuts(data: CutsLike, *, option: str = "data", allow_outside: bool = False) -> CutSet:
    """Cuts from a manifest, a folder that holds one, an AudioFolder or lhotse's Shar; or cuts in memory as they are.

    Manifests are read lazily, again at every pass. Audio paths in them are relative to the manifest's folder.

    Args:
        data: one path or several, joined by commas; a CutSet; or a sequence of cuts.
        option: the argument that it was given by, for messages.
        allow_outside: let a manifest name audio outside its own folder. One from a stranger could have any file of this
            machine read.

    Raises:
        OptionError: nothing that can be read is there, or a path leads outside.
        UserError: a manifest is damaged; also while its cuts are read.
    """
    if isinstance(data, CutSet):
        return data
    if isinstance(data, str | Path):
        return _read_paths(str(data), option, allow_outside)
    if not isinstance(data, Sequence):
        raise OptionError(option, type(data), "give a path, a CutSet of lhotse or a sequence of its cuts")
    cuts = list(data)
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


def language_of(cut: Any) -> str | None:
    """The language of a cut, such as `en`; None where it is unknown or there are several."""
    languages = {segment.language for segment in cut.supervisions}
    return languages.pop() if len(languages) == 1 else None


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
        if text is None
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
        try:
            with opener(self.path, "rt", encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield self._cut(line, number)
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise UserError(f"cannot read {self.path}: {error}") from error

    def _cut(self, line: str, number: int) -> Any:
        try:
            data = json.loads(line)
            for source in _sources(data):
                if source["type"] == "file":
                    audio = self.folder / source["source"]
                    if not self.allow_outside:
                        _refuse_outside(audio, self.folder, f"{self.path}, line {number}")
                    source["source"] = str(audio)
                elif source["type"] != "memory" and not self.allow_outside:  # lhotse would run a command as it is
                    raise _outside(f"{self.path}, line {number}: the audio comes from a {source['type']}")
            cut = deserialize_item(data)
            if not isinstance(cut, Cut) or not cut.has_recording or not cut.duration > 0:
                raise ValueError("it has no recording or no length")
            return cut
        except OptionError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
            raise UserError(f"{self.path}, line {number}: not a cut that lhotse reads ({error})") from error


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
                    raise _outside(f"{self.folder}: the audio of {cut.id} lies outside its shard")
                yield cut
        except UserError:
            raise
        except Exception as error:  # lhotse's reader raises whatever its archive and its lines do
            raise UserError(f"cannot read the shards of {self.folder}: {error}") from error


def _outside(what: str) -> OptionError:
    return OptionError("allow_outside", False, f"{what}: allow it if you trust this file")


def _refuse_outside(audio: Path, folder: Path, place: str) -> None:
    """Raise OptionError, naming the `place`, for audio that is not in `folder`, links followed."""
    real = Path(os.path.realpath(audio)) if audio.is_symlink() else _real_folder(audio.parent) / audio.name
    if audio.name in ("", "..") or not real.is_relative_to(_real_folder(folder)):
        raise _outside(f"{place}: the audio {audio} lies outside {folder}")


@lru_cache(maxsize=1024)
def _real_folder(folder: Path) -> Path:
    """A folder with links followed; cached, since a manifest has many files in few folders."""
    return Path(os.path.realpath(folder))


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


def _read_paths(paths: str, option: str, allow_outside: bool) -> CutSet:
    """The cuts of several paths that are joined by commas."""
    parts = [Path(part.strip()) for part in paths.split(",") if part.strip()]
    if not parts:
        raise OptionError(option, paths, "give the path of a manifest or a folder")
    sets = [_read(part, option, allow_outside) for part in parts]
    joined = sets[0]
    for other in sets[1:]:
        joined = joined + other
    return joined


def _read(path: Path, option: str, allow_outside: bool) -> CutSet:
    if path.is_dir():
        if (path / MANIFEST).is_file():
            return CutSet(_Manifest(path / MANIFEST, allow_outside))
        for name in AUDIO_FOLDER:
            if (path / name).is_file():
                return CutSet.from_cuts(audio_folder(path / name, allow_outside=allow_outside))
        if any(path.glob(SHARDS)):
            return CutSet(_Shards(path, allow_outside))
        raise OptionError(
            option,
            str(path),
            f"this folder holds neither {MANIFEST} nor shards nor {' nor '.join(AUDIO_FOLDER)}: make a corpus of it "
            "first (trimbre corpus folder)",
        )
    if not path.is_file():
        raise OptionError(option, str(path), "there is no such file: give the path of a manifest or a folder")
    if not path.name.endswith(SUFFIXES):
        raise OptionError(option, str(path), f"the name of a manifest should end in {' or '.join(SUFFIXES)}")
    return CutSet(_Manifest(path, allow_outside))


def audio_folder(metadata: str | Path, *, allow_outside: bool = False) -> Iterator[MonoCut]:
    """Cuts of a Hugging Face AudioFolder: rows of `file_name` and `text` or `transcription`.

    Raises:
        UserError: a row names no file, one that cannot be read, or one outside the folder.
    """
    metadata = Path(metadata)
    for number, row in enumerate(metadata_rows(metadata), start=1):
        name = row.get("file_name")
        if not name or not isinstance(name, str):
            raise UserError(f"{metadata}, row {number}: no file_name (columns: {', '.join(map(str, row))})")
        audio = metadata.parent / name
        if not allow_outside:
            _refuse_outside(audio.absolute(), metadata.parent.absolute(), f"{metadata}, row {number}")
        if not audio.is_file():
            raise UserError(f"{metadata}, row {number}: no audio file {audio}")
        try:
            recording = Recording.from_file(audio, recording_id=str(name))
        except Exception as error:  # lhotse's backends raise whatever their decoders do
            raise UserError(
                f"{metadata}, row {number}: lhotse cannot read the audio {audio}; make a corpus of the folder first "
                "(trimbre corpus folder)"
            ) from error
        text = text_of_row(row)
        cut = recording.to_cut()
        if text is not None:
            cut.supervisions = [SupervisionSegment(str(name), recording.id, 0, recording.duration, text=text)]
        yield cut


def text_of_row(row: Mapping[str, Any]) -> str | None:
    """The transcript in a row of an AudioFolder's metadata."""
    text = row.get("text", row.get("transcription"))
    return None if text is None else str(text)


def metadata_rows(metadata: Path) -> Iterator[dict[str, Any]]:
    """Rows of `metadata.csv` or `metadata.jsonl`; raises UserError where it cannot be read."""
    try:
        with metadata.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte order mark
            if metadata.suffix == ".csv":
                yield from csv.DictReader(file)
                return
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{metadata}, line {number}: not JSON ({error})") from error
                if not isinstance(row, dict):
                    raise UserError(f'{metadata}, line {number}: not an object such as {{"file_name": "a.wav"}}')
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {metadata}: {error}") from error
