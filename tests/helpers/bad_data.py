"""Data that nothing can be trained or measured on, each named by what is bad about it.

A factory takes a good corpus (`cuts.jsonl.gz` and `audio/*.flac`, with transcripts) and the place of the bad one, which
it makes. Its name, with hyphens, is the place's. `BAD_TRANSCRIPTS` and `JUDGED_ALONE` say what cannot use it.
"""

import gzip
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from helpers.bad_models import POINTER
from trimbre.data.cuts import MANIFEST

Factory = Callable[[Path, Path], None]
BAD_DATA: dict[str, Factory] = {}
BAD_TRANSCRIPTS: set[str] = set()
"""Those of `BAD_DATA` that are bad only where transcripts are needed."""
JUDGED_ALONE: set[str] = set()
"""Those that are bad only where errors are counted."""


def bad(factory: Factory) -> Factory:
    BAD_DATA[factory.__name__.replace("_", "-")] = factory
    return factory


def of_transcripts(factory: Factory) -> Factory:
    BAD_TRANSCRIPTS.add(factory.__name__.replace("_", "-"))
    return bad(factory)


def of_references(factory: Factory) -> Factory:
    JUDGED_ALONE.add(factory.__name__.replace("_", "-"))
    return bad(factory)


def lines_of(good: Path) -> list[str]:
    return gzip.decompress((good / MANIFEST).read_bytes()).decode().splitlines()


def written(place: Path, lines: list[str]) -> None:
    place.mkdir(exist_ok=True)
    (place / MANIFEST).write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


def copied(good: Path, place: Path, change: Callable[[dict[str, Any]], Any] = lambda cut: None) -> None:
    """A copy of a corpus with every cut changed."""
    shutil.copytree(good / "audio", place / "audio")
    cuts = [json.loads(line) for line in lines_of(good)]
    for cut in cuts:
        change(cut)
    written(place, [json.dumps(cut) for cut in cuts])


def said(place: Path, good: Path, texts: Callable[[int], str]) -> None:
    """A copy of a corpus with other transcripts."""
    numbers = iter(range(99))
    copied(good, place, lambda cut: cut["supervisions"][0].update(text=texts(next(numbers))))


def table(good: Path, place: Path, text: str | bytes, name: str = "metadata.csv") -> None:
    """An AudioFolder of two clips named 0.flac and 1.flac."""
    place.mkdir()
    for number, audio in enumerate(sorted((good / "audio").iterdir())[:2]):
        shutil.copy(audio, place / f"{number}.flac")
    (place / name).write_bytes(text if isinstance(text, bytes) else text.encode())


# Nothing to read


@bad
def gone(good: Path, place: Path) -> None:
    """Nothing is there."""


@bad
def empty_folder(good: Path, place: Path) -> None:
    place.mkdir()


@bad
def audio_alone(good: Path, place: Path) -> None:
    shutil.copytree(good / "audio", place)


@bad
def a_model(good: Path, place: Path) -> None:
    shutil.copytree(good.with_name("mini"), place)


@bad
def an_audio_file(good: Path, place: Path) -> None:
    shutil.copy(next((good / "audio").iterdir()), place)


@bad
def a_text(good: Path, place: Path) -> None:
    place.write_text("hello\n")


@bad
def splits_below(good: Path, place: Path) -> None:
    for split in ("train", "test"):
        place.mkdir(exist_ok=True)
        table(good, place / split, "file_name,text\n0.flac,bad\n1.flac,cab\n")


# Manifests


@bad
def empty_manifest(good: Path, place: Path) -> None:
    written(place, [])


@bad
def manifest_of_no_bytes(good: Path, place: Path) -> None:
    place.mkdir()
    (place / MANIFEST).write_bytes(b"")


@bad
def manifest_not_compressed(good: Path, place: Path) -> None:
    place.mkdir()
    (place / MANIFEST).write_bytes(b"\x1f\x8bhello" * 9)


@bad
def manifest_truncated(good: Path, place: Path) -> None:
    copied(good, place)
    whole = (place / MANIFEST).read_bytes()
    (place / MANIFEST).write_bytes(whole[: len(whole) // 2])


@bad
def manifest_a_pointer(good: Path, place: Path) -> None:
    place.mkdir()
    (place / MANIFEST).write_text(POINTER)


@bad
def last_line_broken(good: Path, place: Path) -> None:
    copied(good, place)
    written(place, [*lines_of(good), '{"id": "more", '])


@bad
def line_without_recording(good: Path, place: Path) -> None:
    copied(good, place, lambda cut: cut.pop("recording"))


@bad
def lines_of_something_else(good: Path, place: Path) -> None:
    written(place, ["[]", "3"])


# Audio


@bad
def audio_gone(good: Path, place: Path) -> None:
    written(place, lines_of(good))


@bad
def audio_garbage(good: Path, place: Path) -> None:
    copied(good, place)
    for audio in (place / "audio").iterdir():
        audio.write_bytes(b"<html>not found</html>")


@bad
def audio_of_no_length(good: Path, place: Path) -> None:
    copied(good, place)
    for audio in (place / "audio").iterdir():
        soundfile.write(audio, np.zeros(0, dtype=np.float32), 16_000)


@bad
def audio_outside(good: Path, place: Path) -> None:
    written(place, [line.replace("audio/", f"../{good.name}/audio/") for line in lines_of(good)])


@bad
def audio_by_a_command(good: Path, place: Path) -> None:
    copied(good, place, lambda cut: cut["recording"]["sources"][0].update(type="command", source="touch new"))


# Transcripts


@of_transcripts
def no_transcripts(good: Path, place: Path) -> None:
    copied(good, place, lambda cut: cut["supervisions"].clear())


@of_transcripts
def nothing_the_model_spells(good: Path, place: Path) -> None:
    said(place, good, lambda number: "дом на реке")


@of_references
def punctuation_alone(good: Path, place: Path) -> None:
    said(place, good, lambda number: "... !?")


# Tables

TABLES: dict[str, str | bytes] = {
    "table-with-an-open-quote": 'file_name,text\n0.flac,"bad\n1.flac,cab\n',
    "table-of-no-encoding": "file_name,text\n0.flac,café\n1.flac,cab\n".encode("latin-1"),
    "table-without-a-file-column": "clip_number,words\n0,bad\n1,cab\n",
    "table-without-a-text-column": "file_name,duration\n0.flac,1.5\n1.flac,2.5\n",
    "table-of-files-that-are-gone": "file_name,text\n8.flac,bad\n9.flac,cab\n",
    "table-of-two-texts-for-one-file": "file_name,text\n0.flac,bad\n0.flac,cab\n",
    "table-of-a-header-alone": "file_name,text\n",
    "table-of-no-bytes": "",
}
JSON_LINES = {
    "json-lines-broken": '{"file_name": "0.flac", "text": "bad"}\n{"file_name": ',
    "json-lines-of-lists": '["0.flac", "bad"]\n',
}
BAD_DATA |= {name: partial(table, text=text) for name, text in TABLES.items()}
BAD_DATA |= {name: partial(table, text=text, name="metadata.jsonl") for name, text in JSON_LINES.items()}
BAD_TRANSCRIPTS.add("table-without-a-text-column")
