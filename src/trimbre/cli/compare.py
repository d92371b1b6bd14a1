"""`trimbre compare`: runs side by side."""

from pathlib import Path
from typing import Any

from trimbre.cli.console import Json, app, show


@app.command(
    help_epilogue="""Examples:

    trimbre compare half half-by-taylor longer=half-of-900-steps

    trimbre compare runs/*/prune.json --out comparison"""
)
def compare(*runs: str, out: Path | None = None, json: Json = False) -> int:
    """Error rates and costs of several pruning runs in one table, with paired differences.

    Runs that differ in their seed alone make one row. All must have been evaluated on the same sentences.

    Parameters
    ----------
    runs
        Directories that trimbre prune wrote, or their prune.json; NAME=RUN shows a name other than the method's.
    out
        Directory to write the table to, as Markdown and JSON, with a plot of error rate against cost.
    """
    from trimbre import api
    from trimbre.files import refuse_existing
    from trimbre.report.comparison import MARK, write_comparison
    from trimbre.report.terminal.comparison import comparison

    if out is not None:
        refuse_existing(out, mark=MARK)
    found = api.compare(runs)
    shown: list[Any] = [*comparison(found.to_json())]
    if out is not None:
        write_comparison(found, out)
        shown.append(f"{out}: comparison.md, comparison.json and comparison.svg")
    return show(found.to_json(), json, *shown)
