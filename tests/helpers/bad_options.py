"""Command lines that are bad in one place, generated from the commands' own signatures.

Every verb has one good line. A cell of the grid replaces or adds one argument of it. Numbers are known by their type;
what an argument of words is stands in `KINDS`, which a new one has to enter.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, get_args, get_origin

from trimbre.cli.console import app
from trimbre.config import AugmentConfig

LINES = {
    "bench": "mini --runtimes torch-fp32 --threads 1 --repeats 1",
    "compare": "half",
    "convert ctranslate2": "ct2 --out new",
    "corpus folder": "recordings --out new",
    "corpus librispeech": "LibriSpeech",
    "eval": "mini --data data --clips 0",
    "export": "mini --to onnx --out new",
    "graph": "mini --transcripts data --out new",
    "inspect": "mini",
    "prune": "mini --train data --out new --calibration-batches 1 --refit-batches 1 --recover-steps 1",
    "train": "--model mini --train data --dev data --out new --steps 1",
    "transcribe": "mini recordings/0.wav",
}
"""A good line of every verb, positional arguments first."""

KINDS = {
    **dict.fromkeys(("MODEL", "MODELS", "--model", "--against"), "model"),
    **dict.fromkeys(("--data", "--train", "--dev", "--watch", "--calibrate", "--transcripts"), "data"),
    **dict.fromkeys(
        "--to --precision --normalize --device --budget --of --method --protect --runtime --runtimes --text "
        "--layer-distance --splits --parts --language --task".split(),
        "choice",
    ),
    "--out": "new folder",
    **dict.fromkeys(("bench --table", "--hypotheses"), "new file"),
    "prune --table": "times",
    "--graph": "graph",
    **dict.fromkeys(("--sentences", "--vocabulary"), "sentences"),
    "--arpa": "n-grams",
    "FILES": "audio",
    "RUNS": "run",
    "convert ctranslate2 SOURCE": "CTranslate2",
    "corpus folder SOURCE": "recordings",
    "corpus librispeech SOURCE": "LibriSpeech",
}
"""What an argument of words is, by its name or by verb and name."""

COMPANIONS = {
    "prune --table": "--rtf 0.001",
    "prune --runtime": "--budget latency",
    "prune --threads": "--budget latency",
    "prune --watch": "--dev data",
    "export --calibrate": "--precision int8",
    "graph --splits": "--sentences said.txt",
    **{f"prune --{one.name.replace('_', '-')}": "--augment" for one in fields(AugmentConfig)},
}
"""What a line needs beside an argument for this to be read at all."""
APART = {"graph --arpa": "--transcripts", "graph --sentences": "--transcripts"}
"""What an argument takes the place of."""

ZERO = frozenset(
    "--seed --margin --clips --show --tolerance --weight --recover-steps --recover-warmup --validate-every "
    "--save-every --workers --speed --room --noise --snr --telephone --shift --time-masks --mel-masks --task-weight "
    "--posterior-weight --layer-weight --learn-steps --spread --warmup --short-steps --short-seconds --average".split()
)
"""Numbers that may be 0."""
BELOW_ZERO = frozenset({"--snr"})
"""Numbers that may be below 0."""

CONFLICTS = {
    "bench": [
        "--table new --device cuda",
        "--table new --seed 3",
        "--table new --runtimes onnx-fp32 onnx-int8",
        "--table new --threads 1 2",
        "--table new half",
    ],
    "compare": ["--out half", "half", "other=half other=half"],
    "corpus librispeech": ["--parts dev-other"],
    "eval": [
        "--watch data=data",
        "--watch far=data far=data",
        "--watch data",
        "--watch =data",
        "--watch far=",
        "--graph menu --normalize none",
        "--graph menu --against other",
    ],
    "export": ["--calibrate data", "--calibrate data --precision fp32", "--to sherpa-onnx"],
    "graph": ["--arpa said.arpa", "--arpa said.arpa --order 2", "--splits train"],
    "prune": [
        "--remove 0.3 --rtf 0.01",
        "--dry-run --resume",
        "--resume",
        "--watch far=data",
        "--control --low-memory",
        "--low-memory --precision fp32",
        "--noise 0.5",
        "--augment --snr 30 10",
        "--runtime torch-fp32",
        "--threads 2",
        "--table times.json",
        "--rtf 0.001 --table times.json --threads 2",
        "--rtf 0.001 --of encoder",
        "--rtf 0.001 --budget params",
        "--remove 0.9999",
        "--remove 1",
        "--remove 1.2",
        "--recover-warmup 1.5",
        "--ramp 1.5",
        "--task-weight 0 --posterior-weight 0 --layer-weight 0",
        "--dev data --watch dev=data",
        "--protect 99",
        "--protect attention conv ffn",
    ],
    "train": ["--steps 5 --stop-at 6", "--resume", "--average 1", "--speed 1.5", "--snr 30 10", "--vocab-size 1"],
    "transcribe": ["--graph menu --device nowhere"],
}
"""Options that exclude each other, or values that are out of range for a reason of their own."""


@dataclass(frozen=True)
class Argument:
    """One argument of a verb."""

    verb: str
    name: str
    hint: Any
    """The type of one value."""
    several: bool
    index: int | None
    """Its position; None for a flag."""

    @property
    def kind(self) -> str:
        """What it is, in the words of `KINDS`; `number` and `switch` by its type."""
        if self.hint in (int, float):
            return "number"
        return "switch" if self.hint is bool else KINDS[f"{self.verb} {self.name}" if self.full in KINDS else self.name]

    @property
    def full(self) -> str:
        return f"{self.verb} {self.name}"


@dataclass(frozen=True)
class Cell:
    """One bad command line."""

    verb: str
    argument: str
    """Name of the argument that is bad, or nothing where several are together."""
    bad: str
    """What is bad."""
    words: tuple[str, ...]
    culprits: tuple[str, ...]
    """What the sentence has to contain."""
    shared: bool = False
    """Whether the same code refuses it for all arguments, so that not every one needs to meet it."""
    make: tuple[str, str] | None = None
    """Kind and name of the bad thing on disk, which stands at the last of the culprits."""

    @property
    def id(self) -> str:
        return " ".join(filter(None, (self.verb, self.argument, self.bad)))

    @property
    def line(self) -> str:
        return shlex.join(self.words)


@cache
def arguments() -> tuple[Argument, ...]:
    """Every argument of every verb."""
    return tuple(
        argument
        for verb, command in _verbs(app)
        for one in command.assemble_argument_collection()
        if (argument := _argument(verb, one)) is not None
    )


def _verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    inner = [name for name in command if not name.startswith("-")]
    for name in inner:
        yield from _verbs(command[name], (*path, name))
    if not inner:
        yield " ".join(path), command


def _argument(verb: str, given: Any) -> Argument | None:
    """None for a group of flags, whose members follow."""
    if given.names[0] == "*":
        return None
    hint = given.hint
    members = [one for one in get_args(hint) if one not in (type(None), ...)]
    optional = members if get_origin(hint) is not tuple else []
    hint = optional[0] if optional else hint
    several = get_origin(hint) is tuple
    hint = get_args(hint)[0] if several else hint
    return Argument(verb, given.names[0], hint, several, given.index)


def with_value(argument: Argument, *values: str) -> tuple[str, ...]:
    """The good line of a verb with other values of one argument."""
    words = [*shlex.split(LINES[argument.verb]), *shlex.split(COMPANIONS.get(argument.full, ""))]
    if apart := APART.get(argument.full):
        at = words.index(apart)
        del words[at : at + 2]
    if argument.index is not None:
        words[argument.index : argument.index + 1] = values
    elif argument.name in words:
        at = words.index(argument.name) + 1
        words[at : at + 1] = values
    else:
        words += [argument.name, *values]
    return (*argument.verb.split(), *words)


def numbers(argument: Argument) -> Iterator[Cell]:
    """Values that are no numbers, not finite, not whole or too low."""
    values = {"text": "x", "nan": "nan", "infinite": "inf", "empty": ""}
    if argument.hint is int:
        values |= {"not whole": "1.5"}
    if argument.name not in BELOW_ZERO:
        values |= {"negative": "-1"}
    if argument.name not in ZERO:
        values |= {"zero": "0"}
    times = 2 if argument.name == "--snr" else 1
    for bad, value in values.items():
        culprits = (argument.name, value) if value else (argument.name,)
        shared = bad in ("text", "empty", "not whole") or (argument.hint is int and bad in ("nan", "infinite"))
        yield Cell(argument.verb, argument.name, bad, with_value(argument, *[value] * times), culprits, shared)


def flags(argument: Argument) -> Iterator[Cell]:
    """A flag without a value, and one that is given twice."""
    if argument.index is not None or argument.kind == "switch":
        return
    yield Cell(argument.verb, argument.name, "without a value", with_value(argument), (argument.name,), True)
    if not argument.several:
        words = with_value(argument, "1")
        yield Cell(argument.verb, argument.name, "twice", (*words, argument.name, "2"), (argument.name,), True)


def choices(argument: Argument) -> Iterator[Cell]:
    """Words that are not among the known ones."""
    for bad, value in {"unknown": "nonsense", "in capitals": "NONSENSE", "empty": ""}.items():
        culprits = (argument.name, value) if value else (argument.name,)
        yield Cell(argument.verb, argument.name, bad, with_value(argument, value), culprits, bad != "unknown")


def places(argument: Argument, kind: str, names: list[str]) -> Iterator[Cell]:
    """Paths of bad things of a kind, which stand in the folder bad/KIND."""
    for name in names:
        place = f"bad/{kind}/{name}"
        value = f"far={place}" if argument.name == "--watch" else place
        cell = Cell(
            argument.verb,
            argument.name,
            name,
            with_value(argument, value),
            (place,),
            kind in ("model", "data"),
            (kind, name),
        )
        if argument.name == "MODELS":  # the second is no better than the first
            yield replace(cell, bad=f"{name} second", words=with_value(argument, "mini", value))
        yield cell


def conflicts() -> Iterator[Cell]:
    """Options that exclude each other."""
    for verb, many in CONFLICTS.items():
        for given in many:
            words = shlex.split(f"{verb} {LINES[verb]} {given}")
            yield Cell(verb, "", given, tuple(words), ())


def outs(argument: Argument) -> Iterator[Cell]:
    """Places that cannot be written to."""
    folder = argument.kind == "new folder"
    name = "new" if folder else "new.jsonl"  # the ending that `--hypotheses` wants
    values = {
        "taken": "said.txt" if folder else "said.jsonl",
        "below a file": f"said.txt/{name}",
        "in a folder that cannot be written": f"/proc/self/{name}",
        "of too long a name": "n" * 300 + name,
        "empty": "",
    }
    if folder:
        values |= {"full": "full", "an input": "data", "the model": "mini", "here": "."}
    for bad, value in values.items():
        yield Cell(argument.verb, argument.name, bad, with_value(argument, value), (value or argument.name,))
