"""Notes that several commands print beside their result, and the NAME=CUTS words that they read."""

from collections.abc import Mapping, Sequence
from typing import Any

from trimbre.cli.console import tell
from trimbre.errors import UserError


def watched(words: Sequence[str]) -> dict[str, str]:
    """NAME=CUTS words as a mapping; raises UserError for another form."""
    sets = {}
    for word in words:
        name, equals, place = word.partition("=")
        if not (name and equals and place):
            raise UserError(f"--watch {word}: give NAME=CUTS, such as read=data/readings")
        if name in sets:
            raise UserError(f"--watch {word}: {name} is named twice, give each set a name of its own")
        sets[name] = place
    return sets


def note_left_out(report: Mapping[str, Any]) -> None:
    """Print which utterances a run left out: how many were too long, and the first of the unreadable by name."""
    if too_long := report["data"]["too_long"]:
        tell(f"note: {too_long} utterances with transcripts were left out as too long: cut them at pauses")
    if unreadable := list(report["data"]["unreadable"]):
        named = ", ".join(unreadable[:5]) + (", ..." if len(unreadable) > 5 else "")
        tell(f"note: {len(unreadable)} utterances were left out because their audio cannot be read: {named}")
