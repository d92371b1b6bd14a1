"""A comparison of runs as a Markdown table."""

from collections.abc import Mapping
from typing import Any

from trimbre.evaluation.units import UNITS
from trimbre.report.formatting import points, rate, verdict

HEADINGS = ("method", "seeds", "parameters, MACs removed", "times faster")
DIFFERENCES = {
    "dense": "difference from the dense model",
    "control": "difference from the control",
    "best_other": "difference from the best other",
}


def comparison_markdown(found: Mapping[str, Any]) -> str:
    """The rows of `Comparison.to_json`; error rates in percent with 95 % intervals, differences in points."""
    sets, rows = found["sets"], found["rows"]
    kinds = [kind for kind in DIFFERENCES if any(kind in row["against"] for row in rows)]
    words = rows[0]["wer"]
    headings = [
        *HEADINGS,
        *(f"{name} ({_size(words[name])}, normalised `{found['normalize']}`)" for name in sets),
        *(DIFFERENCES[kind] for kind in kinds),
        "steps",
        "min",
    ]
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *(_cells(row, sets, kinds) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _size(wer: Mapping[str, Any]) -> str:
    """How much was said on a set and, where intervals are over these, by how many speakers."""
    by = f" by {wer['speakers']} speakers" if wer.get("resampled") == "speakers" else ""
    return f"{wer['words']:,} {UNITS[wer['rate']]}{by}"


def _cells(row: Mapping[str, Any], sets: list[str], kinds: list[str]) -> list[str]:
    removed = row["removed"]
    return [
        row["name"] + (f", {row['share']:.0%}" if row["share"] else ""),
        str(len(row["seeds"])),
        f"{removed['params']:.1%}, {removed['macs']:.1%}",
        f"{row['times_faster']:.2f}" if row["times_faster"] else "",
        *(_rate(row["wer"][name], len(row["seeds"])) for name in sets),
        *(_difference(row["against"].get(kind)) for kind in kinds),
        str(row["steps"]),
        f"{row['minutes']:.1f}",
    ]


def _rate(wer: Mapping[str, Any], seeds: int) -> str:
    text = rate(wer)
    return text + (f" (seeds {wer['seeds'][0]:.2f} to {wer['seeds'][1]:.2f})" if seeds > 1 else "")


def _difference(against: Mapping[str, Any] | None) -> str:
    if against is None:
        return ""
    other = f" ({against['name']})" if "name" in against else ""
    return f"{verdict(against)}: {points(against)}{other}"
