"""What a finished row comes to: the figures of the committed JSON, and the Markdown tables of all rows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from making import places
from rows import Claim, Row

from trimbre.benchmark.latency_tables import machine
from trimbre.evaluation.units import UNITS
from trimbre.report.formatting import deciding, points

WEIGHTS = "model.safetensors"
COUNTS = ("percent", "interval", "resampled", "errors", "reference")
DIFFERENCE = ("verdict", "points", "interval", "relative_percent", "smallest_supported_margin_percent", "resampled")
MODELS = ("dense", "control", "pruned")


def summary(row: Row, runs: Path) -> dict[str, Any]:
    """All figures of a row whose commands have run, without texts and without the errors of single utterances."""
    at = places(row, runs)
    pruned = json.loads((at["pruned"] / "prune.json").read_text())
    timed, int8 = (json.loads(at[name].read_text()) for name in ("float32", "int8"))
    sets = _sets(pruned["evaluation"]["sets"] if row.steps else _renamed(timed["sets"], row), row)
    rivals = {name: json.loads(at[f"beside {name}"].read_text()) for name in row.beside}
    for name, found in rivals.items():
        for each, one in _renamed(found["sets"], row, name).items():
            sets[each]["rates"][name] = _picked(deciding(one["references"][name])[1], COUNTS)
            sets[each]["beside"][name] = _picked(one["references"][name]["comparison"], DIFFERENCE)
    stages = pruned["stages"]
    taught = _hours_taught(Path(row.model))
    return {
        "name": row.name,
        "title": row.title,
        "model": row.model,
        "machine": machine() | {"torch": torch.__version__},
        "command": pruned["command"],
        "removed": pruned["removed"],
        "missed": pruned["missed"],
        "size": {"dense": timed["reference_sizes"]["baseline"], "pruned": timed["size"]},
        "bytes": {
            "weights": {"dense": _bytes(row.model), "pruned": _bytes(at["pruned"])},
            "int8": int8["bytes"],
            **{name: _bytes(place) for name, place in row.beside.items()},
        },
        "steps": row.steps,
        "step_seconds": pruned["step_seconds"],
        "processes": pruned["processes"],
        "minutes": {
            "recovery": sum(stage["minutes"] for name, stage in stages.items() if name != "control"),
            "control": stages["control"]["minutes"] if "control" in stages else None,
            "commands": json.loads(at["minutes"].read_text()),
        },
        "hours": pruned["audio_seconds"] / 3600,
        "hours_taught": taught,
        "share_of_hours_taught": None if taught is None else pruned["audio_seconds"] / 3600 / taught,
        "data": pruned["data"],
        "sets": sets,
        "times": {
            "float32, PyTorch": _times(timed["real_time"], {row.model: "dense", str(at["pruned"]): "pruned"}),
            "int8, ONNX Runtime": _times(int8["real_time"], {"dense": "dense", "pruned": "pruned"}),
            **{
                f"float32, PyTorch, beside {name}": _times(
                    found["real_time"], {row.beside[name]: name, str(at["pruned"]): "pruned"}
                )
                for name, found in rivals.items()
            },
        },
        "int8": {
            "set": row.timed,
            "rates": {name: _picked(one, COUNTS) for name, one in int8["rates"].items()},
            "beside": {"dense": _picked(int8["comparison"], DIFFERENCE)},
        },
        "claims": [claimed(claim, sets) for claim in row.claims],
    }


def _renamed(found: Mapping[str, Any], row: Row, other: str = "dense") -> dict[str, Any]:
    """Sets of `trimbre eval` by the names that pruning gives them, with the other model by its own."""
    named = {row.timed if name == "data" else name: one for name, one in found.items()}
    return {name: one | {"references": {other: one["references"]["baseline"]}} for name, one in named.items()}


def _sets(found: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """Figures of each judged set, in the row's order."""
    sets = {}
    for name in row.sets:
        one, others = found[name], found[name]["references"]
        rates = {model: deciding(others[model])[1] for model in MODELS if model in others}
        rates["pruned"] = deciding(one)[1]
        sets[name] = {
            "rate": one["decides"],
            "normalize": one["normalize"],
            "utterances": one["utterances"],
            "speakers": one["speakers"],
            "rates": {model: _picked(rate, COUNTS) for model, rate in rates.items()},
            "beside": {model: _picked(other["comparison"], DIFFERENCE) for model, other in others.items()},
            "loops": {model: other["loops"]["utterances"] for model, other in {**others, "pruned": one}.items()},
        }
    return sets


def claimed(claim: Claim, sets: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked of a set's figures, and whether it holds."""
    holds = claim.judge(sets[claim.set]["beside"][claim.beside])
    return {"set": claim.set, "beside": claim.beside, "asked": claim.asked, "holds": holds}


def _times(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Real-time factors and times faster than the other model; one by one, and as one recording."""
    times = {}
    for way, one in found.items():
        factors = {names[model]: spread["median"] for model, spread in one["factors"].items()}
        ratio = next(spread for model, spread in one["ratios"].items() if names[model] == "pruned")
        faster = {"median": 1 / ratio["median"], "low": 1 / ratio["high"], "high": 1 / ratio["low"]}
        times[way] = {"threads": one["threads"], "clips": one["clips"], "factors": factors, "times_faster": faster}
    return times


def _hours_taught(model: Path) -> float | None:
    """Hours of audio that a model was trained on, by its train.json; None where there is none."""
    file = model / "train.json"
    if not file.exists():
        return None
    trained = json.loads(file.read_text())
    return sum(stage["audio_seconds"] for stage in [*trained.get("earlier", []), trained]) / 3600


def _bytes(model: str | Path) -> int:
    return (Path(model) / WEIGHTS).stat().st_size


def _picked(found: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: found[key] for key in keys}


def tables(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of Markdown: error rates and claims of each row and set, then sizes, times and training of each row."""
    yield "| model, removed | judged on | dense | control | pruned | beside dense | beside control | asked, holds |"
    yield f"|{'---|' * 8}"
    for one in found:
        for name, judged in one["sets"].items():
            own = [claim for claim in one["claims"] if claim["set"] == name]
            asked = "; ".join(f"{claim['asked']} beside {claim['beside']}: {claim['holds']}" for claim in own)
            words = f"{name} ({judged['rates']['pruned']['reference']:,} {UNITS[judged['rate']]})"
            rates = [_rate(judged["rates"].get(model)) for model in MODELS]
            beside = [_difference(judged["beside"].get(model)) for model in ("dense", "control")]
            yield f"| {' | '.join([one['title'], words, *rates, *beside, asked])} |"
    yield ""
    yield (
        "| model, removed | parameters, MACs of the blocks removed | whole model: parameters, MACs left "
        "| weights, int8 in MB | times faster: float32, int8 | training | audio |"
    )
    yield f"|{'---|' * 7}"
    for one in found:
        yield f"| {' | '.join([one['title'], *_costs(one)])} |"


def _costs(one: Mapping[str, Any]) -> list[str]:
    """Cells of the second table; a row by cross-validation has no one model to weigh and export."""
    removed, whole, megabytes = one["removed"], ["–"], ["–"]
    scope = "encoder-blocks" if "encoder-blocks" in one["command"] else "blocks"
    if "size" in one:
        size, weights = one["size"], one["bytes"]
        whole = [f"{size['pruned'][key] / size['dense'][key]:.1%}" for key in ("parameters", "macs_per_second")]
        megabytes = [
            " → ".join(f"{weights[kind][model] / 1e6:.1f}" for model in ("dense", "pruned"))
            for kind in ("weights", "int8")
        ]
    faster = (
        f"{way['utterances']['times_faster']['median']:.2f}"
        for name, way in one["times"].items()
        if "beside" not in name
    )
    share = one["share_of_hours_taught"]
    return [
        ", ".join(f"{removed[cost][scope]:.1%}" for cost in ("params", "macs")),
        ", ".join(whole),
        "; ".join(megabytes),
        ", ".join(faster),
        f"{one['steps']:,} steps, {one['minutes']['recovery']:.0f} min" if one["steps"] else "none",
        f"{one['hours']:.1f} h" + ("" if share is None else f", {share:.1%} of the teacher's"),
    ]


def _rate(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    low, high = found["interval"]
    return f"{found['percent']:.2f} [{low:.2f}, {high:.2f}]"


def _difference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    relative, bound = found["relative_percent"], found["smallest_supported_margin_percent"]
    said = (
        "" if relative is None else f" ({relative:+.1f} %" + (f", at most {bound:+.1f})" if bound is not None else ")")
    )
    return points(found) + said
