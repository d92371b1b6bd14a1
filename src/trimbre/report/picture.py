"""The picture of a comparison: error rate against cost, as SVG."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimbre.errors import UserError
from trimbre.evaluation.compare_runs import CONTROL


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw the error rate on the main set against the share of the blocks' parameters left, with 95 % intervals.

    Args:
        found: `Comparison.to_json`.
        path: SVG file to write.

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
            offset = 0.8 * (position - len(names) / 2)  # so that intervals of equal cost stand side by side
            at = [100 * (1 - row["removed"]["params"]) + offset / 2 for row in rows]
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
                    label="control: the dense model, trained for as long",
                )
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)))
        axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
        axes.yaxis.set_minor_locator(ticker.NullLocator())
        axes.set_xlabel("parameters of the blocks left, % (points of equal cost are moved apart)")
        axes.set_ylabel(f"{rows[0]['wer'][main]['rate'].upper()} on {main}, %")
        axes.grid(axis="y", linewidth=0.3)
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
