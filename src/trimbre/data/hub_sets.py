"""Data sets of Hugging Face by name, such as `hf:openslr/librispeech_asr:clean:test` or `open-asr:ami`.

A split is streamed, row by row, into a folder of recordings with a table, which is then read as any other. One of the
Hub stays in Trimbre's cache, by its commit, so that it is fetched once; one of a local folder is in a temporary folder.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from trimbre.data.columns import AUDIO, FILE, LANGUAGE, SPEAKER, TEXT, indices
from trimbre.data.outside import outside, refuse_outside
from trimbre.data.text import are_same
from trimbre.errors import OptionError, UserError, reason
from trimbre.files import cache_folder, directory_written_whole
from trimbre.progress import tracked

HUB, LEADERBOARD = "hf:", "open-asr:"
TABLE = "metadata.jsonl"
ESB, CLEANED = "hf-audio/esb-datasets-test-only-sorted", "hf-audio/open-asr-leaderboard"
SETS = {
    "ami": (ESB, "ami", "test"),
    "ami-cleaned": (CLEANED, "ami_cleaned", "test"),
    "earnings22": (ESB, "earnings22", "test"),
    "gigaspeech": (ESB, "gigaspeech", "test"),
    "gigaspeech-cleaned": (CLEANED, "gigaspeech_cleaned", "test"),
    "librispeech-clean": (ESB, "librispeech", "test.clean"),
    "librispeech-other": (ESB, "librispeech", "test.other"),
    "spgispeech": (ESB, "spgispeech", "test"),
    "tedlium": (ESB, "tedlium", "test"),
    "voxpopuli": (ESB, "voxpopuli", "test"),
    "voxpopuli-cleaned": (CLEANED, "voxpopuli_cleaned_aa", "test"),
}
"""The Open ASR Leaderboard's English sets by the words that we give them: repository, configuration and split."""
BATCH = 32
"""Rows that are held in memory at a time."""


@dataclass(frozen=True)
class HubSet:
    """A split of a data set of Hugging Face."""

    given: str
    repository: str
    """OWNER/NAME on the Hub, or a local folder that the library datasets reads."""
    config: str | None = None
    split: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of the columns `audio` and `text`, where they are stated."""
    language: str | None = None
    """Of rows that do not state one."""

    @property
    def is_local(self) -> bool:
        return Path(self.repository).is_dir()

    def folder_name(self, commit: str) -> str:
        parts = [self.repository, self.config or "", self.split or "", *sorted(self.columns.items())]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
        return f"{re.sub(r'[^0-9A-Za-z.-]+', '-', self.repository)}-{digest}-{commit[:12]}"


def hub_set(given: str, *, option: str = "data") -> HubSet | None:
    """The data set that a name means; None for a name that is none of one.

    Raises:
        OptionError: the name begins as one and goes on otherwise.
    """
    if given.startswith(LEADERBOARD):
        word = given.removeprefix(LEADERBOARD)
        if word not in SETS:
            raise OptionError(option, given, f"the leaderboard's sets are {', '.join(SETS)}")
        return HubSet(given, *SETS[word], language="en")
    if not given.startswith(HUB):
        return None
    fields = given.removeprefix(HUB).removeprefix("//").split(":")
    columns = dict(one.split("=", 1) for one in fields if "=" in one)
    name, *places = [one for one in fields if "=" not in one] or [""]
    is_local = bool(name) and Path(name).is_dir()
    repository = name if is_local else name.removeprefix("datasets/")
    known = is_local or re.fullmatch(r"[\w.-]+/[\w.-]+", repository)
    if not known or len(places) > 2 or not set(columns) <= {"audio", "text"}:
        advice = "give hf:OWNER/NAME:CONFIG:SPLIT, with :text=COLUMN or :audio=COLUMN at its end"
        raise OptionError(option, given, advice)
    config, split = [*(place or None for place in places), None, None][:2]
    return HubSet(given, repository, config, split, columns)


def fetched(one: HubSet, *, option: str = "data") -> Path:
    """The table of a folder that holds a data set, which is streamed there unless it has been.

    Raises:
        OptionError: it is not there, or cannot be reached, or it has several configurations, splits or columns and the
            name does not say which.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError('data sets of Hugging Face need its library: pip install "trimbre[hub]"') from error
    place = Path(_temporary().name) if one.is_local else cache_folder() / "datasets"
    commit = "local" if one.is_local else _commit(one, place, option)
    folder = place / one.folder_name(commit)
    if one.is_local or not folder.is_dir():
        rows = _opened(datasets, one, None if one.is_local else commit, option)
        with directory_written_whole(folder) as beside:
            _write(rows, one, beside, option)
    return folder / TABLE


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder that is removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="trimbre-")


def _commit(one: HubSet, place: Path, option: str) -> str:
    """The newest commit of a data set; that of what was fetched last where the Hub cannot be reached."""
    try:
        return str(HfApi().dataset_info(one.repository, timeout=10).sha)
    except GatedRepoError as error:
        advice = "it is gated: ask for access on its page, then log in (hf auth login)"
        raise OptionError(option, one.given, advice) from error
    except RepositoryNotFoundError as error:
        advice = f"there is no data set {one.repository} on the Hub: correct it, or log in for one that is private"
        raise OptionError(option, one.given, advice) from error
    except Exception as error:  # of the network there are as many as of libraries
        earlier = sorted(place.glob(one.folder_name("") + "*"), key=lambda path: path.stat().st_mtime)
        if earlier:
            return earlier[-1].name.rpartition("-")[2]
        advice = f"the Hub cannot be reached ({reason(error)[:200]}), and this set was not fetched before"
        raise OptionError(option, one.given, f"{advice}: check the network") from error


def _opened(datasets: Any, one: HubSet, commit: str | None, option: str) -> Any:
    """The rows of a data set, as the library streams them."""
    try:
        found = datasets.load_dataset(one.repository, one.config, split=one.split, revision=commit, streaming=True)
    except Exception as error:  # of its builders, of file systems and of the network
        said = reason(error, whole=True).partition(" Example of usage")[0]
        raise OptionError(option, one.given, f"the library datasets does not read it ({said[:300]})") from error
    if one.split is not None:
        return found
    if len(found) > 1:
        config = one.config or ""
        example = f"{HUB}{one.repository}:{config}:{'test' if 'test' in found else next(iter(found))}"
        raise OptionError(option, one.given, f"it has the splits {', '.join(found)}: name one, such as {example}")
    return next(iter(found.values()))


def _write(rows: Any, one: HubSet, folder: Path, option: str) -> None:
    """Write recordings and a table of them to a folder."""
    known = getattr((rows.info.splits or {}).get(str(rows.split)), "num_examples", None)
    told_of = tracked(_told(rows, one, option), f"fetching {one.given}", known or None)
    number = 0
    with (folder / TABLE).open("w", encoding="utf-8") as table:
        for number, (audio, told) in enumerate(told_of, start=1):
            stem = re.sub(r"[^\w.-]+", "-", Path(str(audio.get("path") or "")).stem)[:60]
            suffix = Path(str(audio.get("path") or "")).suffix.lower()
            name = f"{number:06d}{'-' if stem else ''}{stem}{suffix if suffix in AUDIO else '.wav'}"
            (folder / name).write_bytes(_content(audio, one, f"{one.given}, row {number}"))
            table.write(json.dumps({"file_name": name, **told}, ensure_ascii=False) + "\n")
    if not number:
        raise OptionError(option, one.given, "there is no row in it: name another split")


def _told(rows: Any, one: HubSet, option: str) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Audio of each row, as `bytes` or a `path`, and what is known of it by the names of our own tables."""
    from datasets import ClassLabel

    labels = {name: kind for name, kind in (rows.features or {}).items() if isinstance(kind, ClassLabel)}
    number = 0
    for batch in rows.with_format("arrow").iter(batch_size=BATCH):
        names = batch.schema.names
        audio, texts = _audio_column(batch.schema, one, option), _text_columns(names, one, option)
        for row in batch.to_pylist():
            number += 1
            told = {"text": _text(row, texts, one, number), "language": one.language}
            for key, known in (("language", LANGUAGE), ("speaker", SPEAKER)):
                for name in [names[index] for index in indices(names, known)]:
                    value = row[name]
                    if name in labels and isinstance(value, int):
                        value = labels[name].int2str(value)
                    if isinstance(value, str) or (value is not None and key == "speaker"):
                        told[key] = str(value)
            yield row[audio] or {}, {key: value for key, value in told.items() if value is not None}


def _text(row: Mapping[str, Any], columns: Sequence[str], one: HubSet, number: int) -> str | None:
    """The transcript of a row; None where it has none."""
    stated = [(name, " ".join(str(row[name]).split())) for name in columns if row[name] is not None]
    for name, text in stated[1:]:
        if not are_same(text, stated[0][1]):
            advice = f"{stated[0][0]} and {name} have different texts, name one: {one.given}:text={name}"
            raise UserError(f"{one.given}, row {number}: {advice}")
    return stated[0][1] if stated else None


def _audio_column(schema: Any, one: HubSet, option: str) -> str:
    """The only column of recordings, or the one that the name states."""
    holds = [name for name in schema.names if "bytes" in _fields(schema.field(name).type)]
    named = [holds[index] for index in indices(holds, FILE)]
    return _only("audio", holds, named[:1] or holds, schema.names, one, option)[0]


def _text_columns(names: list[str], one: HubSet, option: str) -> list[str]:
    """The columns of transcripts, or the one that the name states."""
    return _only("text", names, [names[index] for index in indices(names, TEXT)], names, one, option, most=len(names))


def _only(
    what: str, fit: list[str], found: list[str], names: list[str], one: HubSet, option: str, *, most: int = 1
) -> list[str]:
    """The columns that are meant: the stated one where it fits, else those that were found.

    Raises:
        OptionError: none fits, or more than `most`.
    """
    stated = one.columns.get(what)
    chosen = found if stated is None else [stated]
    if chosen and len(chosen) <= most and set(chosen) <= set(fit):
        return chosen
    example = f"{one.given.partition(f':{what}=')[0]}:{what}=COLUMN"
    kind = "transcripts" if what == "text" else "audio"
    number = f"no column {stated}" if stated else "several columns" if chosen else "no known column"
    advice = f"it has {number} of {kind} (columns: {', '.join(names)}): name it, {example}"
    raise OptionError(option, one.given, advice)


def _fields(kind: Any) -> list[str]:
    """The names of the fields of a type of Arrow, where it is a structure."""
    return [kind.field(index).name for index in range(kind.num_fields)] if str(kind).startswith("struct") else []


def _content(audio: Mapping[str, Any], one: HubSet, place: str) -> bytes:
    """The encoded audio of a row; nothing where there is none, which reading then says of it."""
    path = audio.get("path")
    if audio.get("bytes") is not None or not path:
        return audio.get("bytes") or b""
    import fsspec

    if one.is_local:
        refuse_outside(Path(path), Path(one.repository).absolute(), place)
    elif not path.split("::")[-1].startswith(("hf://", "https://")):
        raise outside(f"{place}: the audio is {path}, a file of this machine")
    try:
        with fsspec.open(path, "rb") as file:
            return bytes(file.read())
    except Exception as error:  # of file systems and of the network
        raise UserError(f"{place}: cannot read {path}: {reason(error)[:200]}") from error
