"""What can be cut from a model, what a run removed, and what was made of a model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from trimbre.costs.cost import TITLES
from trimbre.evaluation.units import UNITS
from trimbre.inference.graph.decoder import GraphReport
from trimbre.report.formatting import PER_SECOND, amount, batch_line, latency_line
from trimbre.report.terminal.evaluation import rates_table, verdicts
from trimbre.report.terminal.tables import new_table

SHORT_TITLES = {"params": "parameters", "macs": "MACs per s", "latency": "s per s"}


def inspection(found: Mapping[str, Any]) -> Iterator[Any]:
    """What can be cut from a model, kind by kind."""
    dense = found["dense"]
    table = new_table(
        ["kind", "modules", "units", *(f"share of\n{TITLES[cost]}" for cost in dense)],
        title=f"{found['model']}: what can be cut, and its share of the blocks",
    )
    for name, kind in found["kinds"].items():
        shares = [f"{share:.1%}" for share in kind["share_of_blocks"].values()]
        table.add_row(f"{name} ({kind['unit']}s)", str(kind["modules"]), f"{kind['units']:,}", *shares)
    yield table
    for cost in dense:
        sizes = ", ".join(f"{scope} {amount(cost, dense[cost][scope])}" for scope in dense[cost])
        yield f"{TITLES[cost]}{' (MACs)' if cost == 'macs' else ''}{PER_SECOND[cost]}: {sizes}"
    if rows := found.get("vocabulary"):
        yield f"vocabulary: {rows['tokens']:,} tokens, {rows['share_of_parameters']:.1%} of the parameters"
    if (distance := found.get("masked_equals_sliced_within")) is not None:
        yield f"masked equals sliced: outputs differ by at most {distance:.1e} of their norm"


def preview(found: Mapping[str, Any]) -> Iterator[Any]:
    """What a run would remove, and what it would train on."""
    yield from inspection(found)
    options, data = found["options"], found["data"]
    yield from _rows(found)
    for cost, value in found["to_remove"].items():
        yield (
            f"to remove: {options['remove']:.1%} of the {TITLES[cost]} of the {found['of']}, "
            f"{amount(cost, value)}{PER_SECOND[cost]} "
            f"(at most {found['reachable'][cost]:.1%} can be removed)"
        )
    labelled = f"{data['transcribed']} of them with transcripts"
    too_long = f", {data['too_long']} left out as too long" if data["too_long"] else ""
    yield f"training data: {data['utterances']} utterances, {data['hours']:.2f} h, {labelled}{too_long}"
    steps = f"{found['learn_steps']} of gates, {options['recovery']['steps']} of recovery"
    yield f"steps: {steps}, {batch_line(found)}; nothing is written"


def pruning(found: Mapping[str, Any], out: Path) -> Iterator[Any]:
    """What a run removed, where from, and how error rates changed."""
    yield from _rows(found)
    yield widths_table(found["widths"])
    yield shares_table(found["removed"], found["dense"])
    if "latency" in found:
        yield latency_line(found["latency"])
    if found["evaluation"]:
        yield rates_table(found["evaluation"])
        yield from verdicts(found["evaluation"])
    minutes = sum(stage["minutes"] for name, stage in found["stages"].items() if name != "control")
    moved = ""
    if (share := found["units_moved_by_search"]) is not None:
        moved = f"; the search for the exact cost moved {share:.1%} of the units"
    yield (
        f"method {found['options']['method']}; cut equals gated within {found['cut_equals_gated_within']:.1e}{moved}; "
        f"{found['times_faster']['median']:.2f} times faster (PyTorch, one thread, a clip of 10 s); "
        f"trained for {minutes:.1f} min on {found['audio_seconds'] / 3600:.1f} h of audio, {batch_line(found)}"
    )
    yield f"{out}: load it with trimbre.load({str(out)!r})"


def _rows(found: Mapping[str, Any]) -> Iterator[str]:
    """What stays of a vocabulary, where rows of it leave."""
    if rows := found.get("rows"):
        yield f"vocabulary: {rows['kept']:,} of {rows['of']:,} rows stay, for {rows['texts']} and the training data"


def exported(found: Mapping[str, Any]) -> Iterator[Any]:
    """What was exported, how large it is and what it was compared with."""
    yield (
        f"{found['out']}: for {found['to']}, {found['precision']}, {found['bytes'] / 1e6:.1f} MB"
        + (f" ({found['bytes'] / found['float32_bytes']:.0%} of float32)" if found["precision"] == "int8" else "")
    )
    yield f"the float32 graph equals the model within {found['equal_to_model_within']:.1e} of the output's norm"
    for precision, words in found["wer"].items():
        length = f"{words['reference']:,} {UNITS[words['rate']]}"
        yield f"{words['rate'].upper()} of {precision}: {words['percent']:.2f} % ({length})"


def graph(made: GraphReport) -> Iterator[Any]:
    """Contents of a decoding graph, and what it was made from."""
    source = "an ARPA file" if made.sentences is None else f"{made.sentences:,} sentences"
    yield (
        f"{made.out}: {made.words:,} words, {made.ngrams:,} n-grams of up to {made.order} words from {source}, "
        f"weight {made.weight:g}"
    )
    if made.left_out:
        named = ", ".join(made.left_out[:5]) + (", ..." if len(made.left_out) > 5 else "")
        yield f"{len(made.left_out)} words were left out because the model's vocabulary cannot spell them: {named}"


def widths_table(widths: Mapping[str, tuple[int, int]]) -> Table:
    """Units kept in every module, a row for each layer; `widths` is path -> (units now, units before)."""
    names = list(dict.fromkeys(path.rpartition(".")[2] for path in widths))
    rows: dict[str, dict[str, str]] = {}
    for path, (now, before) in widths.items():
        layer, _, name = path.rpartition(".")
        rows.setdefault(layer, {})[name] = f"{now}/{before}" if now else "–"
    headings = [name.replace("_", "\n") for name in names]  # names of modules are the widest part
    table = new_table(["layer", *headings], title="Units kept of those before (–: none)")
    for layer, cells in rows.items():
        table.add_row(layer, *(cells.get(name, "") for name in names))
    return table


def shares_table(removed: Mapping[str, Mapping[str, float]], dense: Mapping[str, Mapping[str, float]]) -> Table:
    """Share removed of each cost, a row for each part of the model that it is a share of."""
    costs = [cost for cost in SHORT_TITLES if cost in removed]
    table = new_table(["removed of the", *(SHORT_TITLES[cost] for cost in costs)], title="Removed")
    for scope in removed["params"]:
        table.add_row(scope, *(f"{removed[cost][scope]:.1%}" for cost in costs))
    before = {cost: dense[cost]["model"] for cost in costs}
    table.add_section()
    table.add_row("model before", *(amount(cost, before[cost]) for cost in costs))
    table.add_row("model after", *(amount(cost, before[cost] * (1 - removed[cost]["model"])) for cost in costs))
    return table
