"""What the commands share: options, exit codes, and output for people and for machines."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from cyclopts import App, Group, Parameter, Token, convert


def default_shown(value: Any) -> str | None:
    """A default as one would type it; nothing for flags and for what is left out."""
    if value is None or isinstance(value, bool) or value == ():
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def from_words(hint: Any, words: Sequence[Token]) -> Any:
    """A value of a parameter's type; a number that is not whole is no int, while cyclopts would round it."""

    def one(kind: type, word: str) -> Any:
        return kind(word) if kind in (int, float) else convert(kind, [word])

    return convert(hint, words, converter=one)


app = App(
    name="trimbre",
    help="Structured pruning for speech recognition: make a trained model smaller and faster, evaluate it, export it.",
    help_format="plaintext",
    version_flags=["--version"],
    help_epilogue="trimbre COMMAND --help shows a command's options with examples.",
    default_parameter=Parameter(negative="", consume_multiple=1, converter=from_words, show_default=default_shown),
    suppress_keyboard_interrupt=False,  # trimbre.cli says how to resume
)

DONE, MISSED, BAD_INPUT, INTERRUPTED, NOT_READ = 0, 1, 2, 130, 141
"""Exit codes; the last is for output that nobody reads any more, as a shell gives it for SIGPIPE."""

DATA = Group("Data and output", sort_key=0)
COMMON = Group("Common options", sort_key=100)
Json = Annotated[bool, Parameter(name="--json", group=COMMON, help="Print one JSON object, the last line of stdout.")]
Seed = Annotated[int, Parameter(name="--seed", group=COMMON, help="Seed of every random draw.")]
Device = Annotated[
    str,
    Parameter(
        name="--device", group=COMMON, help="auto, cpu, cuda or mps; auto is the accelerator where there is one."
    ),
]
AllowOutside = Annotated[
    bool, Parameter(name="--allow-outside", help="Accept manifests that name audio outside their own folder.")
]
Language = Annotated[
    str | None,
    Parameter(
        name="--language",
        help="Language of utterances that do not state one, such as de or German; the model's own by default.",
    ),
]
Margin = Annotated[
    float,
    Parameter(name="--margin", help='Relative increase of the WER, in percent, that still counts as "not worse".'),
]


def speaks() -> bool:
    """Whether this process prints: of the processes of a distributed run, the first alone does."""
    return os.environ.get("RANK", "0") == "0"


def tell(sentence: str) -> None:
    """Print a sentence on stderr, in one line: messages of libraries may have several."""
    if speaks():
        print(f"trimbre: {' '.join(sentence.split())}", file=sys.stderr, flush=True)


def show(found: Mapping[str, Any], as_json: bool, *shown: Any) -> int:
    """Print one JSON object, or what rich can render for people; return the exit code of success."""
    if not speaks():
        return DONE
    if as_json:
        print(json.dumps(found, ensure_ascii=False, default=str), flush=True)
        return DONE
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:  # rich would exit with 1, which stands for a missed target
            raise BrokenPipeError

    console = Output()
    for part in shown:
        console.print(part, highlight=False)
    return DONE


@contextmanager
def list_printed(found: Mapping[str, Any], name: str, as_json: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Print one JSON object in a line, the entries of the list at its end as they are written.

    What is done stays printed where the command is stopped; where it can, the object is closed.

    Args:
        found: what stands before the list.
        name: of the list.
        as_json: False prints nothing.
    """
    if not as_json:
        yield lambda entry: None
        return
    begun = json.dumps({**found, name: []}, ensure_ascii=False).removesuffix("]}")
    print(begun, end="", flush=True)
    between = ""

    def write(entry: Mapping[str, Any]) -> None:
        nonlocal between
        print(between + json.dumps(entry, ensure_ascii=False), end="", flush=True)
        between = ", "

    try:
        yield write
    finally:
        print("]}", flush=True)
