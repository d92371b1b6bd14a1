"""Contents of corpora. It imports little, for the commands on corpora are quick."""

from collections.abc import Iterator
from typing import Any

from trimbre.data.corpus import Corpus
from trimbre.report.terminal.tables import new_table


def corpus(written: Corpus) -> Iterator[Any]:
    """Sets of a corpus with their sizes, what was left out, and what else to know."""
    yield f"{written.out}: from {written.source}, licence: {written.licence}"
    table = new_table(["set", "utterances", "hours"])
    for name, count in written.utterances.items():
        table.add_row(name, f"{count:,}", f"{written.hours[name]:.2f}")
    yield table
    if written.skipped:
        yield f"{len(written.skipped)} could not be used, such as: {written.skipped[0]} (all in corpus.json)"
    yield from (f"note: {note}" for note in written.notes)
