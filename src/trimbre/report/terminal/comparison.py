"""A comparison of runs for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from trimbre.evaluation.units import UNITS
from trimbre.report.formatting import by_speaker, intervals, points, rate, verdict
from trimbre.report.terminal.tables import new_table, stacked

SHOWN = {"dense": "the dense model", "control": "the control", "best_other": "the best other run"}


def comparison(found: Mapping[str, Any]) -> Iterator[Table]:
    """Error rates of `Comparison.to_json`, then its paired differences where there are any."""
    yield comparison_table(found)
    differences = differences_table(found)
    if differences.row_count:
        yield differences


def comparison_table(found: Mapping[str, Any]) -> Table:
    """A row for each run or mean over seeds, sections by the share removed."""
    sets, rows = found["sets"], found["rows"]
    found_on = rows[0]["wer"]
    spoken = by_speaker(found_on, {name: found_on[name].get("speakers") for name in sets})
    sizes = [f"{name}\n{found_on[name]['words']:,} {UNITS[found_on[name]['rate']]}" for name in sets]
    table = new_table(
        [
            "method",
            "removed:\nparams\nMACs",
            "times\nfaster",
            *sizes,
        ],
        title=f"Error rates in %, {intervals(found_on.values())}, normalize={found['normalize']}",
        caption="\n".join(dict.fromkeys([*filter(None, [spoken]), *map(_effort, rows)])),
    )
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        removed = row["removed"]
        table.add_row(
            _title(row),
            f"{removed['params']:.1%}\n{removed['macs']:.1%}",
            f"{row['times_faster']:.2f}" if row["times_faster"] else "",
            *(_rate(row["wer"][name], len(row["seeds"])) for name in sets),
            end_section=following is not None and following["share"] != row["share"],
        )
    return table


def differences_table(found: Mapping[str, Any]) -> Table:
    """Paired differences on the main set, in points, with their verdicts."""
    main = found["rows"][0]["wer"][found["sets"][0]]["rate"]
    table = new_table(
        ["method", "compared with", "difference", "verdict"],
        title=f"Paired differences on {found['sets'][0]}, points of {main.upper()}",
        left=["compared with", "verdict"],
    )
    for row in found["rows"]:
        for kind, title in SHOWN.items():
            if kind in row["against"]:
                other = row["against"][kind]
                named = f"{title}, {other['name']}" if "name" in other else title
                table.add_row(_title(row).replace("\n", ", "), named, points(other), verdict(other))
    return table


def _title(row: Mapping[str, Any]) -> str:
    seeds = len(row["seeds"])
    share = f"\n{row['share']:.0%}" if row["share"] else ""
    return row["name"] + share + (f"\nmean of {seeds} seeds" if seeds > 1 else "")


def _rate(wer: Mapping[str, Any], seeds: int) -> str:
    spread = f"\nseeds {wer['seeds'][0]:.2f} to {wer['seeds'][1]:.2f}" if seeds > 1 else ""
    return stacked(rate(wer)) + spread


def _effort(row: Mapping[str, Any]) -> str:
    share = f" {row['share']:.0%}" if row["share"] else ""
    return f"{row['name']}{share}: {row['steps']:,} steps, {row['minutes']:.1f} min"
