"""What corpora hold, for people. It is light, for their verbs are quick."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from trimbre.data.corpus import Corpus


def corpus(written: Corpus) -> Iterator[Any]:
    """What a corpus holds."""
    yield f"{written.out}: from {written.source}, licence: {written.licence}"
    table = Table()
    for heading in ("set", "utterances", "hours"):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    for name, count in written.utterances.items():
        table.add_row(name, str(count), f"{written.hours[name]:.2f}")
    yield table
    if written.skipped:
        yield f"{len(written.skipped)} could not be used, such as: {written.skipped[0]} (all in corpus.json)"
