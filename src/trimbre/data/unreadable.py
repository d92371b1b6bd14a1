"""The count of clips whose audio cannot be read: a few are left out, more are an error."""

import json
from collections.abc import Mapping
from pathlib import Path

from trimbre.errors import UserError
from trimbre.files import write_json

UNREADABLE = 0.01
"""Largest share of the utterances whose audio may be unreadable."""


class UnreadableClips:
    """Counts clips that cannot be read: a few in a large corpus are left out, more are an error.

    Args:
        utterances: number of utterances in the corpus.
        name: of the corpus, for messages.
        kept: JSON file that keeps them, so that a resumed run goes on counting.
    """

    def __init__(self, utterances: int, name: str, *, kept: str | Path | None = None):
        self.utterances, self.name, self.kept = utterances, name, None if kept is None else Path(kept)
        self.unreadable: dict[str, str] = {}
        """The reason for each, by the id of its cut."""
        if self.kept is not None and self.kept.exists():
            self.unreadable = json.loads(self.kept.read_text())

    def note(self, unreadable: Mapping[str, str]) -> None:
        """Add the clips that a batch left out, id -> reason.

        Raises:
            UserError: they are more than 1 % of the corpus by now.
        """
        before = len(self.unreadable)
        self.unreadable |= unreadable
        count = len(self.unreadable)
        if self.kept and count > before:
            write_json(self.kept, self.unreadable)
        if count > UNREADABLE * self.utterances:
            first = next(iter(self.unreadable.values()))
            others = f" ({count} of {self.utterances} utterances of {self.name} so far)" if count > 1 else ""
            raise UserError(f"{first}{others}")
