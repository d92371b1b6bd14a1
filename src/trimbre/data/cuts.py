"""Cut manifests: what lhotse reads, and folders as people have them."""

import csv
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lhotse import CutSet, Recording, SupervisionSegment
from lhotse.cut import Cut, MonoCut
from lhotse.serialization import deserialize_item

from trimbre.errors import UserError
from trimbre.files import written_whole

MANIFEST = "cuts.jsonl.gz"
SUFFIXES = (".jsonl", ".jsonl.gz")
SHARDS = "cuts.[0-9]*.jsonl*"
AUDIO_FOLDER = ("metadata.csv", "metadata.jsonl")


def read_cuts(path: str | Path, *, allow_outside: bool = False) -> CutSet:
    """Read cuts from a manifest, a folder that holds one, an AudioFolder or lhotse's Shar; commas join several.

    Manifests are read lazily, again at every pass. Audio paths in them count from the manifest's folder.

    Args:
        allow_outside: let a manifest name audio outside its own folder, which one from a stranger could use to have
            any file of this machine read.

    Raises:
        UserError: nothing readable is there, or a path leads outside.
    """
    parts = [Path(part.strip()) for part in str(path).split(",") if part.strip()]
    if not parts:
        raise UserError("no data given: name a manifest or a folder")
    sets = [_read(part, allow_outside) for part in parts]
    joined = sets[0]
    for other in sets[1:]:
        joined = joined + other
    return joined


def write_cuts(cuts: Iterable[MonoCut], folder: Path) -> Path:
    """Write `folder/cuts.jsonl.gz`, whole or not at all, with audio paths relative to `folder`."""
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
    """The text of a cut, of all its segments in order of time; None where there is none or one of them has none."""
    texts = [segment.text for segment in sorted(cut.supervisions, key=lambda segment: segment.start)]
    return None if not texts or None in texts else " ".join(texts)


def language_of(cut: Any) -> str | None:
    """The language that is spoken in a cut, such as `en`; None where it isn't known or there are several."""
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
    """A cut of a whole 16 kHz mono file that is known to hold `samples`."""
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
    said = (
        []
        if text is None
        else [SupervisionSegment(id, id, 0, samples / rate, text=text, speaker=speaker, language=language)]
    )
    return MonoCut(id, 0, samples / rate, 0, supervisions=said, recording=recording)


class _Manifest:
    """A manifest that is read line by line at every pass, audio paths resolved against its folder."""

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
                elif source["type"] != "memory" and not self.allow_outside:  # lhotse would run a command as it stands
                    raise UserError(
                        f"{self.path}, line {number}: its audio comes from a {source['type']}: give --allow-outside if "
                        "you trust this file"
                    )
            cut = deserialize_item(data)
            if not isinstance(cut, Cut) or not cut.has_recording or not cut.duration > 0:
                raise ValueError("it has no recording or no length")
            return cut
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
                    raise UserError(
                        f"{self.folder}: the audio of {cut.id} lies outside its shard: give --allow-outside if you "
                        "trust it"
                    )
                yield cut
        except UserError:
            raise
        except Exception as error:  # lhotse's reader raises whatever its archive and its lines do
            raise UserError(f"cannot read the shards of {self.folder}: {error}") from error


def _refuse_outside(audio: Path, folder: Path, place: str) -> None:
    """Raise UserError, naming the `place`, for audio that isn't in `folder`, links followed."""
    real = Path(os.path.realpath(audio)) if audio.is_symlink() else _real_folder(audio.parent) / audio.name
    if audio.name in ("", "..") or not real.is_relative_to(_real_folder(folder)):
        raise UserError(
            f"{place}: the audio {audio} lies outside {folder}: give --allow-outside if you trust this file"
        )


@lru_cache(maxsize=1024)
def _real_folder(folder: Path) -> Path:
    """A folder with links followed; kept, for a manifest has many files in few folders."""
    return Path(os.path.realpath(folder))


def _sources(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every audio source in a serialised cut, those of a mixed cut's tracks too."""
    yield from (data.get("recording") or {}).get("sources", ())
    for track in data.get("tracks", ()):
        yield from _sources(track["cut"])


def _sources_read(cut: Any) -> Iterator[Any]:
    """Every audio source of a cut, those of a mixed one's tracks too; padding has none."""
    for part in [track.cut for track in getattr(cut, "tracks", ())] or [cut]:
        if part.has_recording:
            yield from part.recording.sources


def _read(path: Path, allow_outside: bool) -> CutSet:
    if path.is_dir():
        if (path / MANIFEST).is_file():
            return CutSet(_Manifest(path / MANIFEST, allow_outside))
        for name in AUDIO_FOLDER:
            if (path / name).is_file():
                return CutSet.from_cuts(audio_folder(path / name, allow_outside=allow_outside))
        if any(path.glob(SHARDS)):
            return CutSet(_Shards(path, allow_outside))
        raise UserError(
            f"the folder {path} holds neither {MANIFEST} nor shards nor {' nor '.join(AUDIO_FOLDER)}: see trimbre "
            "corpus folder"
        )
    if not path.is_file():
        raise UserError(f"no data at {path}: name a manifest or a folder")
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path} is not a manifest: its name should end in {' or '.join(SUFFIXES)}")
    return CutSet(_Manifest(path, allow_outside))


def audio_folder(metadata: Path, *, allow_outside: bool = False) -> Iterator[MonoCut]:
    """Cuts of a Hugging Face AudioFolder: rows of `file_name` and `text` or `transcription`.

    Raises:
        UserError: a row names no file, one that cannot be read, or one outside the folder.
    """
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
                f"{metadata}, row {number}: lhotse cannot read the audio {audio}; bring the folder in with "
                "trimbre corpus folder"
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
    """Rows of `metadata.csv` or `metadata.jsonl`; raises UserError where it can't be read."""
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
