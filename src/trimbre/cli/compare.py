"""`trimbre compare`: runs side by side."""

from pathlib import Path
from typing import Any

from trimbre.cli.console import Json, Seed, app, show


@app.command(
    help_epilogue="""Examples:

    trimbre compare half half-by-taylor longer=half-of-900-steps

    trimbre compare runs/*/prune.json --out comparison"""
)
def compare(*runs: str, out: Path | None = None, seed: Seed = 0, json: Json = False) -> int:
    """Error rates and costs of several pruning runs in one table, with paired differences.

    Runs that differ in their seed alone make one row. All must have been judged on the same sentences.

    Parameters
    ----------
    runs
        Directories that trimbre prune wrote, or their prune.json; NAME=RUN calls one by another name than its method's.
    out
        Directory to write the table to, as Markdown and JSON, with a picture of error rate against cost.
    """
    from trimbre.evaluation.compare_runs import Comparison, Run
    from trimbre.report.comparison import write_comparison
    from trimbre.report.terminal.comparison import comparison

    found = Comparison.of([Run.read(place) for place in runs])
    shown: list[Any] = [*comparison(found.to_json())]
    if out is not None:
        write_comparison(found, out)
        shown.append(f"{out}: comparison.md, comparison.json and comparison.svg")
    return show(found.to_json(), json, *shown)
