"""Running a row: every step is a command that can be typed, and what is there already is passed over."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from commands import Failed, processes, run
from rows import Row

from trimbre.errors import UserError
from trimbre.files import write_json
from trimbre.training.resume import run_folder

MISSED = 1
"""Exit code of a run that missed its target by some units, and is complete."""


def places(row: Row, runs: Path) -> dict[str, Path]:
    """Where a row's products lie."""
    folder = runs / row.name
    named = {name: folder / f"{name}.json" for name in ("row", "minutes", "float32", "int8")}
    named |= {f"beside {name}": folder / f"beside-{name}.json" for name in row.beside}
    return named | {name: folder / name for name in ("pruned", "dense-int8", "pruned-int8")}


def make(row: Row, runs: Path, log: Path) -> None:
    """Prune, evaluate, export and time, as far as that is not done.

    Raises:
        UserError: an earlier run of this name was made otherwise.
        Failed: a command failed, which has said why in the log.
    """
    at = places(row, runs)
    at["row"].parent.mkdir(parents=True, exist_ok=True)
    stated = json.loads(json.dumps(asdict(row)))
    unread = {"title", "claims", "minutes"}  # what does not change the run
    if at["row"].exists() and _without(json.loads(at["row"].read_text()), unread) != _without(stated, unread):
        raise UserError(f"{at['row'].parent} holds a run by other options: remove it or rename the row")
    write_json(at["row"], stated)
    steps: dict[Path, tuple[Callable[[], Sequence[str]], int]] = {
        at["pruned"]: (lambda: prune_command(row, at["pruned"]), processes() if row.steps else 1),
        at["float32"]: (lambda: eval_command(row, at["pruned"]), 1),
        at["dense-int8"]: (lambda: export_command(row, row.model, at["dense-int8"]), 1),
        at["pruned-int8"]: (lambda: export_command(row, str(at["pruned"]), at["pruned-int8"]), 1),
        at["int8"]: (lambda: exported_command(row, at), 1),
        **{at[f"beside {name}"]: (lambda name=name: beside_command(row, at["pruned"], name), 1) for name in row.beside},
    }
    for product, (command, count) in steps.items():
        if product.exists():
            continue
        save = product if product.suffix == ".json" else None
        with log.open("a") as said, counted(at["minutes"], product.name):
            try:
                run(command(), processes=count, save=save, log=said)
            except Failed as failed:
                if failed.code != MISSED or product != at["pruned"] or not product.exists():
                    raise


def prune_command(row: Row, out: Path) -> list[str]:
    """`trimbre prune`, which evaluates too where there is a control: this one is not kept."""
    count = processes() if row.steps else 1
    command = ["trimbre", "prune", row.model, "--train", ",".join(row.train), "--out", str(out)]
    command += ["--remove", f"{row.remove:g}", "--recover-steps", str(row.steps)]
    command += ["--max-duration", f"{row.step_seconds / count:g}", *row.options, *_language(row)]
    if row.steps:
        command += ["--dev", row.dev, "--watch", *(f"{name}={place}" for name, place in row.sets.items())]
        command += ["--control", "--validate-every", str(row.steps)]
    unfinished = run_folder(out).exists()
    return command + (["--resume"] if unfinished else [])


def eval_command(row: Row, model: Path) -> list[str]:
    """`trimbre eval` beside the dense model with times, on all sets where pruning did not evaluate."""
    others = {} if row.steps else {name: place for name, place in row.sets.items() if name != row.timed}
    return _eval(row, model, row.model, others)


def beside_command(row: Row, model: Path, name: str) -> list[str]:
    """`trimbre eval` beside another model, on the sets that a claim is about."""
    judged = {claim.set for claim in row.claims if claim.beside == name} - {row.timed}
    return _eval(row, model, row.beside[name], {one: row.sets[one] for one in row.sets if one in judged})


def _eval(row: Row, model: Path, against: str, watch: Mapping[str, str]) -> list[str]:
    command = ["trimbre", "eval", str(model), "--against", against, "--data", row.sets[row.timed]]
    command += ["--watch", *(f"{name}={place}" for name, place in watch.items())] if watch else []
    return [*command, "--clips", str(row.clips), "--json", *_language(row)]


def export_command(row: Row, model: str, out: Path) -> list[str]:
    """`trimbre export` to ONNX Runtime, int8."""
    return ["trimbre", "export", model, "--to", "onnx", "--precision", "int8", "--out", str(out), *_language(row)]


def exported_command(row: Row, at: Mapping[str, Path]) -> list[str]:
    """Error rates and times of both exports."""
    script = Path(__file__).with_name("exported.py")
    with suppress(ValueError):
        script = script.relative_to(Path.cwd())
    command = ["python", str(script), str(at["pruned-int8"]), "--against", str(at["dense-int8"])]
    return [*command, "--data", row.sets[row.timed], "--clips", str(row.clips), *_language(row)]


def _language(row: Row) -> list[str]:
    return ["--language", row.language] if row.language else []


def _without(found: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in keys}


@contextmanager
def counted(file: Path, name: str):
    """Add the minutes of what is done within, whether it ends or is interrupted, to those noted in `file`."""
    began = time.monotonic()
    try:
        yield
    finally:
        noted = json.loads(file.read_text()) if file.exists() else {}
        write_json(file, noted | {name: noted.get(name, 0.0) + (time.monotonic() - began) / 60})
