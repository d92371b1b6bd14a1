"""Files and folders of other kinds that commands read, each named by what is bad about it.

`BAD_FILES` is kind -> name -> factory; a factory takes the folder of good things and the place of the bad one, which it
makes. A good one of every kind stands in that folder under the name in `GOOD_FILES`.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

Factory = Callable[[Path, Path], None]
GOOD_FILES = {
    "audio": "recordings/0.wav",
    "graph": "menu",
    "sentences": "said.txt",
    "n-grams": "said.arpa",
    "times": "times.json",
    "run": "half",
    "recordings": "recordings",
    "LibriSpeech": "LibriSpeech",
    "CTranslate2": "ct2",
}


def nothing(good: Path, place: Path) -> None:
    """Nothing is there."""


def folder(good: Path, place: Path) -> None:
    place.mkdir()


def file(content: bytes) -> Factory:
    return lambda good, place: place.write_bytes(content) and None


def changed(kind: str, name: str, content: str | bytes | None) -> Factory:
    """A copy of the good folder of a kind with another content in one of its files, or without it."""

    def factory(good: Path, place: Path) -> None:
        shutil.copytree(good / GOOD_FILES[kind], place)
        if content is None:
            (place / name).unlink()
        else:
            (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return factory


def of_wav(samples: int) -> Factory:
    return lambda good, place: soundfile.write(place, np.zeros(samples, np.float32), 16_000, format="WAV")


def json_changed(kind: str, **changes: object) -> Factory:
    """A copy of the good JSON file of a kind with other top-level values."""
    return lambda good, place: (
        place.write_text(json.dumps(json.loads((good / GOOD_FILES[kind]).read_text()) | changes)) and None
    )


def with_text(folder: Path, name: str, content: str | bytes) -> None:
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


NO_FOLDER: dict[str, Factory] = {"gone": nothing, "a-file": file(b"hello\n"), "empty": folder}
NO_FILE: dict[str, Factory] = {"gone": nothing, "a-folder": folder}

BAD_FILES: dict[str, dict[str, Factory]] = {
    "audio": {
        **NO_FILE,
        "empty": file(b""),
        "garbage": file(b"<html>not found</html>" * 9),
        "of-no-length": of_wav(0),
        "half-a-header": file(b"RIFF\x24\x00\x00\x00WAVEfmt "),
    },
    "graph": {
        **NO_FOLDER,
        "undescribed": changed("graph", "graph.json", None),
        "description-broken": changed("graph", "graph.json", "{"),
        "description-of-another-kind": changed("graph", "graph.json", "[]"),
        "network-damaged": changed("graph", "graph.fst", b"\0" * 99),
        "network-missing": changed("graph", "graph.fst", None),
        "words-missing": changed("graph", "words.txt", None),
    },
    "sentences": {
        **NO_FILE,
        "empty": file(b""),
        "of-no-encoding": file("café\n".encode("latin-1")),
        "of-punctuation": file(b"... !?\n"),
        "of-another-script": file("дом на реке\n".encode()),
    },
    "n-grams": {
        **NO_FILE,
        "empty": file(b""),
        "a-text": file(b"bad cab\n"),
        "not-a-number": file(b"\\data\\\nngram 1=2\n\n\\1-grams:\n-x\t<s>\n-1\t</s>\n\\end\\\n"),
        "cut-off": file(b"\\data\\\nngram 1=9\n\n\\1-grams:\n-1.0\t<s>\n"),
        "of-no-encoding": file("\\data\\\nngram 1=1\n\n\\1-grams:\n-1.0\tcafé\n\\end\\\n".encode("latin-1")),
    },
    "times": {
        **NO_FILE,
        "empty": file(b""),
        "a-text": file(b"hello\n"),
        "a-list": file(b"[]"),
        "of-another-kind": file(b'{"format": 1, "model": "mini"}'),
        "of-another-model": json_changed("times", signature="0" * 16),
        "of-a-newer-format": json_changed("times", format=99),
        "not-rising": json_changed("times", curves={"attention of encoder.layers, 8 wide": [[1, 2.0], [2, 1.0]]}),
        "not-finite": json_changed("times", fixed=float("nan")),
    },
    "run": {
        **NO_FOLDER,
        "report-broken": changed("run", "prune.json", "{"),
        "report-of-another-kind": changed("run", "prune.json", "[]"),
        "report-of-a-word": changed("run", "prune.json", '"half"'),
        "report-without-evaluation": changed("run", "prune.json", '{"options": {"method": "l0"}}'),
        "report-of-other-sets": changed(
            "run", "prune.json", '{"options": {"method": "l0"}, "evaluation": {"sets": {"dev": {"sentences": 3}}}}'
        ),
    },
    "recordings": {
        **NO_FOLDER,
        "of-no-audio": lambda good, place: with_text(place, "notes.txt", "hello\n"),
        "all-garbage": lambda good, place: with_text(place, "0.wav", "<html>not found</html>"),
        "all-empty": lambda good, place: with_text(place, "0.wav", ""),
        "table-broken": lambda good, place: with_text(place, "metadata.csv", 'file_name,text\n0.wav,"bad\n'),
        "table-of-files-that-are-gone": lambda good, place: with_text(
            place, "metadata.csv", "file_name,text\n0.wav,a\n"
        ),
        "table-of-no-encoding": lambda good, place: with_text(
            place, "metadata.csv", "file_name,text\n0.wav,café\n".encode("latin-1")
        ),
    },
    "LibriSpeech": {
        **NO_FOLDER,
        "of-no-part": lambda good, place: with_text(place / "somewhere", "notes.txt", "hello\n"),
        "part-empty": lambda good, place: (place / "dev-clean").mkdir(parents=True),
        "part-without-audio": lambda good, place: with_text(
            place / "dev-clean/1/2", "1-2.trans.txt", "1-2-0 BAD CAB\n"
        ),
    },
    "CTranslate2": {
        **NO_FOLDER,
        "a-checkpoint": lambda good, place: shutil.copytree(good / "mini", place) and None,
        "model-truncated": changed("CTranslate2", "model.bin", b"\x06\x00\x00\x00"),
        "model-garbage": changed("CTranslate2", "model.bin", b"<html>not found</html>" * 9),
        "model-missing": changed("CTranslate2", "model.bin", None),
        "tokenizer-missing": changed("CTranslate2", "tokenizer.json", None),
        "tokenizer-broken": changed("CTranslate2", "tokenizer.json", "{"),
        "tokenizer-of-another": changed("CTranslate2", "tokenizer.json", '{"added_tokens": []}'),
        "config-broken": changed("CTranslate2", "config.json", "{"),
    },
}
