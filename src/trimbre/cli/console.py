"""What the commands have in common: their shared options, and what they say to people and to machines."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import App, Group, Parameter


def default_shown(value: Any) -> str | None:
    """A default as one would type it; nothing for flags and for what is left out."""
    if value is None or isinstance(value, bool) or value == ():
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


app = App(
    name="trimbre",
    help="Make a trained speech recogniser smaller and faster: prune it, check that it still hears, load it anywhere.",
    help_format="plaintext",
    version_flags=["--version"],
    help_epilogue="trimbre COMMAND --help shows a command's options with examples.",
    default_parameter=Parameter(negative="", consume_multiple=True, show_default=default_shown),
    suppress_keyboard_interrupt=False,  # trimbre.cli says how to go on
)

DONE, MISSED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

COMMON = Group("Every command", sort_key=100)
Json = Annotated[bool, Parameter(name="--json", group=COMMON, help="Print one JSON object, the last line of stdout.")]
AllowOutside = Annotated[
    bool, Parameter(name="--allow-outside", help="Let manifests name audio outside their own folder: trust them.")
]
Seed = Annotated[int, Parameter(name="--seed", group=COMMON, help="Every random draw follows from it.")]


def speaks() -> bool:
    """Whether this process talks to people: of several that run together, the first alone does."""
    return os.environ.get("RANK", "0") == "0"


def tell(sentence: str) -> None:
    """Say a sentence on stderr."""
    if speaks():
        print(f"trimbre: {sentence}", file=sys.stderr, flush=True)


def show(found: Mapping[str, Any], as_json: bool, *shown: Any) -> int:
    """Print one JSON object, or what rich can render for people; return the exit code of success."""
    if not speaks():
        return DONE
    if as_json:
        print(json.dumps(found, ensure_ascii=False, default=str), flush=True)
        return DONE
    from rich.console import Console

    console = Console()
    for part in shown:
        console.print(part, highlight=False)
    return DONE
