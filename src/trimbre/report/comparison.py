"""A comparison of runs for people: a table for the terminal and for Markdown, and a picture of errors against cost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from trimbre.errors import UserError
from trimbre.evaluation.compare_runs import CONTROL, Comparison
from trimbre.files import directory_written_whole, refuse_existing, write_json

HEADINGS = ("method", "seeds", "parameters, MACs removed", "times faster")


def table(found: Mapping[str, Any]) -> Table:
    """The rows of `Comparison.to_json` for rich to print."""
    headings, rows = cells(found)
    shown = Table(title="Error rates in %, 95 % intervals over sentences; differences in points, paired")
    for heading in headings:
        shown.add_column(heading, justify="left" if heading == "method" else "right")
    shares = [row["share"] for row in found["rows"]]
    for position, row in enumerate(rows):
        following = shares[position + 1] if position + 1 < len(rows) else None
        shown.add_row(*row, end_section=following is not None and following != shares[position])
    return shown


def markdown(found: Mapping[str, Any]) -> str:
    """The same as a Markdown table."""
    headings, rows = cells(found)
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cells(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text."""
    sets, rows = found["sets"], found["rows"]
    words = rows[0]["wer"]
    headings = [*HEADINGS, *(f"{name} ({words[name]['words']:,} words)" for name in sets)]
    kinds = [kind for kind in ("unpruned", "best_other") if any(kind in row["against"] for row in rows)]
    headings += [{"unpruned": "less the unpruned", "best_other": "less the best other"}[kind] for kind in kinds]
    headings += ["steps", "min"]
    return headings, [_cells(row, sets, kinds) for row in rows]


def _cells(row: Mapping[str, Any], sets: list[str], kinds: list[str]) -> list[str]:
    removed = row["removed"]
    return [
        row["name"] + (f", {row['share']:.0%}" if row["share"] else ""),
        str(len(row["seeds"])),
        f"{removed['params']:.1%}, {removed['macs']:.1%}",
        f"{row['times_faster']:.2f}" if row["times_faster"] else "",
        *(_rate(row["wer"][name], len(row["seeds"])) for name in sets),
        *(_difference(row["against"].get(kind), kind) for kind in kinds),
        str(row["steps"]),
        f"{row['minutes']:.1f}",
    ]


def _rate(wer: Mapping[str, Any], seeds: int) -> str:
    low, high = wer["interval"]
    text = f"{wer['percent']:.2f} [{low:.2f}, {high:.2f}]"
    return text + (f" (seeds {wer['seeds'][0]:.2f} to {wer['seeds'][1]:.2f})" if seeds > 1 else "")


def _difference(against: Mapping[str, Any] | None, kind: str) -> str:
    if against is None:
        return ""
    low, high = against["interval"]
    named = f" ({against['name']})" if kind == "best_other" else ""
    return f"{against['points']:+.2f} [{low:+.2f}, {high:+.2f}]{named}"


def write(comparison: Comparison, out: Path) -> None:
    """Write the table as Markdown and JSON and the picture as SVG to a directory, whole or not at all.

    Raises:
        UserError: `out` exists and is no comparison, or matplotlib is missing.
    """
    refuse_existing(out, mark="comparison.json")
    found = comparison.to_json()
    with directory_written_whole(out) as beside:
        write_json(beside / "comparison.json", found)
        (beside / "comparison.md").write_text(markdown(found))
        draw(found, beside / "comparison.svg")


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Error rate on the main set against the share of the blocks' parameters that is left, with intervals.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        import matplotlib

        matplotlib.use("svg")
        from matplotlib import pyplot, ticker
    except ImportError as error:
        raise UserError('the picture needs matplotlib: pip install "trimbre[plots]"') from error
    main = found["sets"][0]
    names = list(dict.fromkeys(row["name"] for row in found["rows"]))
    settings: Any = {"svg.hashsalt": "trimbre", "svg.fonttype": "none", "font.size": 10}
    with matplotlib.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
        colours = pyplot.get_cmap("tab10" if len(names) <= 10 else "tab20")
        for position, name in enumerate(names):
            if name == CONTROL:
                continue
            rows = [row for row in found["rows"] if row["name"] == name]
            aside = 0.8 * (position - len(names) / 2)  # so that intervals of like cost stand beside each other
            at = [100 * (1 - row["removed"]["params"]) + aside / 2 for row in rows]
            rates = [row["wer"][main]["percent"] for row in rows]
            ends = [
                [abs(row["wer"][main]["interval"][end] - rate) for row, rate in zip(rows, rates, strict=True)]
                for end in (0, 1)
            ]
            axes.errorbar(
                at, rates, yerr=ends, fmt="o", capsize=2, markersize=4, color=colours(position % colours.N), label=name
            )
        for row in found["rows"]:
            if row["name"] == CONTROL:
                axes.axhline(
                    row["wer"][main]["percent"],
                    color="black",
                    linewidth=1,
                    linestyle="--",
                    label="control: nothing removed, trained on for as long",
                )
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)))
        axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
        axes.yaxis.set_minor_locator(ticker.NullLocator())
        axes.set_xlabel("parameters of the blocks left, % (points of like cost are moved apart)")
        axes.set_ylabel(f"WER on {main}, %")
        axes.grid(axis="y", linewidth=0.3)
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
