"""Latency in pruning runs: the table that a latency target is counted in, and the measured time of the result."""

import json
from pathlib import Path
from typing import Any

from trimbre.benchmark.latency_tables import by_the_clock, table_for
from trimbre.config import PruneConfig
from trimbre.costs.latency import LatencyTable
from trimbre.models.loading import Recogniser
from trimbre.pruning.pipeline import Pruned
from trimbre.training.resume import run_folder


def latency_table(recogniser: Recogniser, name: str, config: PruneConfig, resumed: Path | None) -> LatencyTable:
    """The table that a run counts time by; a resumed run keeps the one it was started with.

    Args:
        name: of the model, which a newly measured table notes.
        resumed: `out` of the run to resume; None for a new run.
    """
    noted = None if resumed is None else run_folder(resumed) / "settings.json"
    if noted is not None and noted.is_file() and (kept := json.loads(noted.read_text()).get("table")):
        return LatencyTable.from_json(kept)
    return table_for(*recogniser, name=name, options=config.latency)


def measured_latency(dense: Recogniser, pruned: Pruned, rtf: float | None) -> dict[str, Any]:
    """Latency by the table and, where the table is of this machine, by the clock, as plain data.

    Args:
        rtf: the real-time factor that was asked for; None where a share was.
    """
    table, budget = pruned.costs.table, pruned.costs.budgets["latency", "model"]
    assert table is not None
    return {
        "where": pruned.costs.measured_in,
        "asked": rtf,
        "unpruned": budget.dense,
        "pruned": budget.cost.of(pruned.result.plan),
        "measured": by_the_clock(dense, pruned.model, table),
        "table": table.to_json(),
    }
