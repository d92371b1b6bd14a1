"""The picture of a comparison: error rate against measured time, one line a method and one panel a testbed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot, ticker

from trimbre.evaluation.compare_runs import CONTROL

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5539")
"""Of the methods that are named, apart for the colour-blind too (Okabe and Ito)."""
MARKERS = "osD^vPX"
OURS = "curvature"
"""The default method, whose line is the thickest."""
LIGHT = "#c8c8c8"
SETTINGS: Mapping[str, Any] = {
    "svg.hashsalt": "trimbre",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(panels: Mapping[str, Mapping[str, Any]], path: Path, *, named: Sequence[str] | None = None) -> None:
    """Draw panels side by side, on the same scales.

    A point is a method at one share, the mean over its seeds, with its 95 % interval. Methods that are not named are
    drawn in grey, as one.

    Args:
        panels: title -> `Comparison.to_json`.
        path: SVG file to write.
        named: methods in colour, in order; None: the default and those that did best.
    """
    named = best(panels, len(COLOURS)) if named is None else list(named)
    with matplotlib.rc_context(SETTINGS):
        width = 2.2 + 3.4 * len(panels)
        figure, every = pyplot.subplots(
            1, len(panels), figsize=(width, 4.4), layout="constrained", sharex=True, sharey=True, squeeze=False
        )
        for axes, (title, found) in zip(every[0], panels.items(), strict=True):
            _panel(axes, found, named)
            axes.set_title(title, fontsize=10, loc="left")
            axes.set_xlabel("time, % of the dense model's")
        main = next(iter(panels.values()))
        name = main["sets"][0]
        every[0][0].set_ylabel(f"{main['rows'][0]['wer'][name]['rate'].upper()} on {name}, %")
        handles = {
            label: line for axes in every[0] for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        order = [label for label in (CONTROL, *named, "others") if label in handles]
        figure.legend([handles[label] for label in order], order, fontsize=9, frameon=False, loc="outside right upper")
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def best(panels: Mapping[str, Mapping[str, Any]], count: int) -> list[str]:
    """The default and the methods with the lowest mean rank over all panels and shares, `count` in all."""
    ranks: dict[str, list[float]] = {}
    for found in panels.values():
        name = found["sets"][0]
        rows = [row for row in found["rows"] if row["name"] != CONTROL]
        for share in {row["share"] for row in rows}:
            alike = sorted((row for row in rows if row["share"] == share), key=lambda row: row["wer"][name]["percent"])
            for place, row in enumerate(alike):
                ranks.setdefault(row["name"], []).append(place / len(alike))
    order = sorted(ranks, key=lambda method: (method != OURS, sum(ranks[method]) / len(ranks[method])))
    return order[:count]


def _panel(axes: Any, found: Mapping[str, Any], named: Sequence[str]) -> None:
    """One comparison: the control at its own time, dashed across, and a line for each method."""
    name = found["sets"][0]
    methods = dict.fromkeys(row["name"] for row in found["rows"])
    for method in sorted(methods, key=lambda one: named.index(one) if one in named else -1):  # grey ones first
        rows = [row for row in found["rows"] if row["name"] == method and row["times_faster"]]
        if not rows:
            continue
        rows.sort(key=lambda row: -row["times_faster"])
        times, points = [100 / row["times_faster"] for row in rows], [row["wer"][name] for row in rows]
        rates = [wer["percent"] for wer in points]
        if method == CONTROL:
            axes.axhline(rates[0], color="black", linewidth=0.8, linestyle="--", label=CONTROL)
            continue
        if method not in named:
            axes.plot(times, rates, color=LIGHT, linewidth=1, marker=".", markersize=4, zorder=1, label="others")
            continue
        place = named.index(method)
        ends = [[abs(wer["interval"][end] - wer["percent"]) for wer in points] for end in (0, 1)]
        axes.errorbar(
            times,
            rates,
            yerr=ends,
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
            linewidth=2.4 if method == OURS else 1.3,
            elinewidth=0.6,
            zorder=3 if method == OURS else 2,
            label=method,
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.grid(axis="y", linewidth=0.3, color=LIGHT)
