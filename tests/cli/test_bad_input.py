"""Whatever is bad among models, data and options: one sentence from every verb, exit code 2, and nothing written.

The cells of the grid are generated: every argument of every verb, by the kind of thing that it takes, times everything
of that kind that is bad (`helpers.bad_models`, `bad_data`, `bad_files`, `bad_options`). What many arguments refuse by
the same code meets some of them in turn; `TRIMBRE_GRID=whole` tests every pair.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path

import huggingface_hub
import pytest
import soundfile
import tqdm
import transformers
from helpers.bad_data import BAD_DATA, BAD_TRANSCRIPTS, JUDGED_ALONE
from helpers.bad_files import BAD_FILES
from helpers.bad_models import BAD_MODELS
from helpers.bad_options import (
    KINDS,
    LINES,
    Argument,
    Cell,
    arguments,
    choices,
    conflicts,
    flags,
    numbers,
    outs,
    places,
)
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor
from helpers.runs import QUICK, pruned
from helpers.tones import corpus_of

import trimbre.cli
from trimbre.benchmark.latency_tables import measure
from trimbre.inference.graph.build import make_graph
from trimbre.models.checkpoint import save

WORDS = ["bad cab", "a bad egg", "bee", "egg fed"]
UNTRANSCRIBED = {"prune --train", "export --calibrate"}
"""Where data need no transcripts."""
LEAKS = r"Traceback|<class|<function|\b0x[0-9a-f]{4,}|\bNone(Type)?\b|\b[A-Z]\w+Error\b|\[Errno|\bself\.|\bPosixPath\b"
"""What is Python's and not the user's."""
SECOND = r"[\w)'\"][.!?] +[A-Z]"
"""Where one sentence ends and another begins."""
LONGEST = 400
EVERY = 1 if os.environ.get("TRIMBRE_GRID") == "whole" else 4
"""What is bad for many arguments alike is given to one in so many of them."""


def cells() -> Iterator[Cell]:
    """The grid; what all arguments refuse by the same code meets some of them in turn."""
    met: Counter[tuple[str, str]] = Counter()
    for cell in pairs():
        if cell.shared:
            alike = (cell.make[0] if cell.make else "", cell.bad)
            met[alike] += 1
            if (met[alike] + zlib.crc32(cell.bad.encode())) % EVERY:
                continue
        yield cell


def pairs() -> Iterator[Cell]:
    """Every argument of every verb, and whatever is bad for it."""
    for argument in arguments():
        yield from flags(argument)
        match argument.kind:
            case "number":
                yield from numbers(argument)
            case "choice":
                yield from choices(argument)
            case "new folder" | "new file":
                yield from outs(argument)
            case "model":
                yield from places(argument, "model", list(BAD_MODELS))
            case "data":
                yield from places(argument, "data", [name for name in BAD_DATA if applies(name, argument)])
            case "switch":
                pass
            case kind:
                yield from places(argument, kind, list(BAD_FILES[kind]))
    yield from conflicts()


def applies(name: str, argument: Argument) -> bool:
    """Whether a data argument cannot use data that are bad in this way."""
    if name in BAD_TRANSCRIPTS:
        return argument.full not in UNTRANSCRIBED
    if argument.full == "graph --transcripts" and name.startswith("audio-") and name != "audio-alone":
        return name in ("audio-outside", "audio-by-a-command")  # it reads no audio
    return name not in JUDGED_ALONE or argument.name not in ("--train", "--calibrate", "--transcripts")


GRID = {cell.id: cell for cell in cells()}


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    """A folder with a good thing of every kind, and all that are bad in `bad/KIND`."""
    place = tmp_path_factory.mktemp("there")
    save(mini_parakeet(), mini_processor(), place / "mini")
    (place / "config.json").write_text((place / "mini/config.json").read_text())
    corpus_of(place / "data", clips(0.6, 0.7, 0.8, 0.9), WORDS)
    pruned(place / "mini", place / "data", place / "half", QUICK, dev=str(place / "data"))
    (place / "said.jsonl").write_text("mine\n")
    (place / "said.txt").write_text("\n".join(WORDS) + "\n")
    (place / "said.arpa").write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-1\tbad\n-1\t</s>\n-9\t<s>\n\n\\end\\\n")
    make_graph(place / "mini", out=place / "menu", sentences=place / "said.txt")
    measure(mini_parakeet(), mini_processor(), name="mini", compare=lambda plan: (1.0, 2.0)).save(place / "times.json")
    for folder in ("recordings", "full", "tmp", "ct2", "LibriSpeech/dev-clean"):
        (place / folder).mkdir(parents=True)
    soundfile.write(place / "recordings/0.wav", clips(0.6)[0] / 8, 16_000)
    (place / "full/mine.txt").write_text("mine\n")
    for file in (place / "mini").glob("tokenizer.json"):
        (place / "ct2" / file.name).write_bytes(file.read_bytes())
    (place / "ct2/config.json").write_text("{}")
    (place / "ct2/model.bin").write_bytes(b"")
    for cell in GRID.values():
        if cell.make:
            kind, name = cell.make
            bad = place / "bad" / kind / name
            if not os.path.lexists(bad):
                bad.parent.mkdir(parents=True, exist_ok=True)
                if kind == "model":
                    BAD_MODELS[name](place / "mini", bad)
                elif kind == "data":
                    BAD_DATA[name](place / "data", bad)
                else:
                    BAD_FILES[kind][name](place, bad)
    return place


@dataclass(frozen=True)
class Ended:
    """What a command line left behind."""

    code: int
    out: str
    err: str
    changed: frozenset[str]


def state(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Path, size and time of all files and folders."""
    found = []
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = os.lstat(path := os.path.join(parent, name))
            found.append((path, *((0, 0) if name in folders else (status.st_size, status.st_mtime_ns))))
    return frozenset(found)


ENDED: dict[str, Ended] = {}


@pytest.fixture
def end(there, capfd, monkeypatch):
    """Run the line of a cell in this process, once."""
    monkeypatch.chdir(there)
    monkeypatch.setenv("TRIMBRE_CACHE", str(there / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(there / "tmp"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("trimbre.progress.FIRST_LINE", 60.0)
    # The command silences these by the environment, which is too late where they are imported already.
    transformers.utils.logging.disable_progress_bar()
    monkeypatch.setattr(tqdm.std.tqdm, "__init__", partialmethod(tqdm.std.tqdm.__init__, disable=True))

    def end(cell: Cell) -> Ended:
        if cell.line not in ENDED:
            before = state(there)
            capfd.readouterr()
            code = trimbre.cli.run(cell.words)
            out, err = capfd.readouterr()
            changed = frozenset(os.path.relpath(path, there) for path, *_ in before ^ state(there))
            ENDED[cell.line] = Ended(code, out, err, changed)
            for left in there.glob("new*"):  # so that what one cell leaves does not fail the next
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        return ENDED[cell.line]

    yield end
    transformers.utils.logging.enable_progress_bar()


def refuse(ended: Ended, culprits: tuple[str, ...]) -> None:
    """Assert that a command ended in one sentence about the culprits."""
    assert (ended.code, ended.out) == (2, ""), ended.err
    assert ended.err.startswith("trimbre: ")
    assert ended.err.count("\n") == 1
    assert len(ended.err) <= LONGEST
    assert not re.search(LEAKS, ended.err), ended.err
    assert not re.search(SECOND, ended.err), ended.err
    for culprit in culprits:
        assert culprit in ended.err, ended.err
    assert not ended.changed


def test_the_grid_is_large_and_knows_every_argument():
    assert len(GRID) >= 250
    assert {cell.verb for cell in GRID.values()} == set(LINES) == {argument.verb for argument in arguments()}
    assert set(KINDS) <= {argument.name for argument in arguments()} | {argument.full for argument in arguments()}


@pytest.mark.parametrize("cell", GRID)
def test_what_is_bad_ends_in_one_sentence(end, cell):
    cell = GRID[cell]
    refuse(end(cell), cell.culprits)


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_bad_model_is_refused_in_the_same_words_by_every_verb(there, end, name):
    said = {cell.id: end(cell).err for cell in GRID.values() if cell.make == ("model", name)}
    assert len(said) >= 2
    assert len(set(said.values())) == 1, said


@pytest.mark.slow
def test_a_process_of_its_own_ends_alike(there, end):
    cell = next(cell for cell in GRID.values() if cell.verb == "eval" and cell.make)
    command = [sys.executable, "-m", "trimbre", *cell.words]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", end(cell).err)
