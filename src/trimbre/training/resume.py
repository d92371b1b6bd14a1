"""Training state on disk: tensors as safetensors and numbers as JSON, whole or not at all, the last two kept."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trimbre.config import differing
from trimbre.errors import UserError
from trimbre.files import directory_written_whole, refuse_existing, write_json

KEPT = 2


def save_state(
    folder: Path,
    step: int,
    *,
    modules: Mapping[str, nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    numbers: Mapping[str, Any],
) -> Path:
    """Write what a run needs to go on after `step` to `folder/step-NNNNNNNN`; only the newest two are kept."""
    place = folder / f"step-{step:08d}"
    with directory_written_whole(place) as beside:
        for name, module in modules.items():
            tensors = {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
            save_file(tensors, beside / f"module-{name}.safetensors")
        for index, optimizer in enumerate(optimizers):
            save_file(_moments(optimizer), beside / f"optimizer-{index}.safetensors")
        (beside / "numbers.json").write_text(json.dumps({"step": step, **numbers}))
    for old in _places(folder)[:-KEPT]:
        shutil.rmtree(old)
    return place


def load_state(
    folder: Path, *, modules: Mapping[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Any] | None:
    """Bring modules and optimizers to the newest state in `folder` and return its numbers; None if there is none."""
    places = _places(folder)
    if not places:
        return None
    place = places[-1]
    for name, module in modules.items():
        module.load_state_dict(load_file(place / f"module-{name}.safetensors"))
    for index, optimizer in enumerate(optimizers):
        _set_moments(optimizer, load_file(place / f"optimizer-{index}.safetensors"))
    return json.loads((place / "numbers.json").read_text())


def run_folder(out: Path) -> Path:
    """The folder beside `out` where its run keeps its state."""
    return out.with_name(f"{out.name}.run")


def prepare_run(out: Path, settings: Mapping[str, Any], *, resume: bool) -> Path:
    """The folder of a run's state; what it was asked is noted there.

    Raises:
        UserError: `out` exists, another run is under way there, or there is none to resume.
    """
    refuse_existing(out)
    run = run_folder(out)
    note = run / "settings.json"
    asked = json.loads(json.dumps(settings))
    if note.is_file():
        before = json.loads(note.read_text())
        if not resume:
            raise UserError(f"--out {out} has an unfinished run in {run}: add --resume to go on, or remove that folder")
        for name, _, earlier in differing(asked, before):
            shown = " ".join(map(str, earlier)) if isinstance(earlier, list) else earlier
            odd = {"model": f"model {shown}", "processes": f"{shown} processes"}.get(name, f"{name}={shown}")
            raise UserError(f"--resume: the run in {run} was started with {odd}: give the same command again")
    elif resume:
        raise UserError(f"--resume: there is no unfinished run for --out {out}: leave --resume out to start one")
    else:
        write_json(note, asked)
    return run


def _places(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name))


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().clone()
        for index, values in state.items()
        for name, value in values.items()
    }


def _set_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    whole = optimizer.state_dict()
    whole["state"] = {}
    for name, value in moments.items():
        index, _, key = name.partition(".")
        whole["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(whole)
