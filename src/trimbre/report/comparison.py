"""A comparison of runs as a directory: Markdown, JSON and a picture."""

from pathlib import Path

from trimbre.evaluation.compare_runs import Comparison
from trimbre.files import directory_written_whole, refuse_existing, write_json
from trimbre.report.markdown.comparison import comparison_markdown
from trimbre.report.picture import draw

MARK = "comparison.json"
"""File that marks a directory as a comparison."""


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write comparison.md, comparison.json and comparison.svg to a directory, whole or not at all.

    Raises:
        UserError: `out` exists and is no comparison, or matplotlib is missing.
    """
    refuse_existing(out, mark=MARK)
    found = comparison.to_json()
    with directory_written_whole(out) as folder:
        write_json(folder / MARK, found)
        (folder / "comparison.md").write_text(comparison_markdown(found))
        draw(found, folder / "comparison.svg")
