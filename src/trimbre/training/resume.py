"""Resuming a run: its state as safetensors and JSON, written atomically, and the settings that it started with."""

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
from trimbre.errors import OptionError
from trimbre.files import directory_written_whole, named_path, refuse_existing, write_json

KEPT = 2
"""States that are kept of a stage."""


def save_state(
    folder: str | Path,
    step: int,
    *,
    modules: Mapping[str, nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    numbers: Mapping[str, Any],
) -> Path:
    """Write what a stage needs to go on after `step` to `folder/step-NNNNNNNN`; the newest two are kept.

    Args:
        modules: by the name that their state is saved under.
        numbers: plain data to keep with them.
    """
    folder = Path(folder)
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
    folder: str | Path, *, modules: Mapping[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Any] | None:
    """Load the newest state in `folder` into modules and optimizers.

    Returns:
        Its numbers and `step`; None where there is no state.
    """
    places = _places(Path(folder))
    if not places:
        return None
    place = places[-1]
    for name, module in modules.items():
        module.load_state_dict(load_file(place / f"module-{name}.safetensors"))
    for index, optimizer in enumerate(optimizers):
        _set_moments(optimizer, load_file(place / f"optimizer-{index}.safetensors"))
    return json.loads((place / "numbers.json").read_text())


def run_folder(out: str | Path) -> Path:
    """The folder beside `out` for the state of the run that will write it."""
    out = named_path(out)
    return out.with_name(f"{out.name}.run")


def prepare_run(out: str | Path, settings: Mapping[str, Any], *, resume: bool) -> Path:
    """Begin or resume the run that will write `out`, and return the folder of its state.

    Args:
        settings: plain data that decides what the run computes; written to the folder, and compared on resuming.

    Raises:
        OptionError: `out` exists, another run is unfinished there, or there is none to resume with these settings.
    """
    refuse_existing(out)
    run = run_folder(out)
    note = run / "settings.json"
    given = json.loads(json.dumps(settings))
    if note.is_file():
        before = json.loads(note.read_text())
        if not resume:
            raise OptionError("out", str(out), f"it has an unfinished run in {run}: resume it or remove that folder")
        for name, _, earlier in differing(given, before):
            shown = " ".join(map(str, earlier)) if isinstance(earlier, list) else earlier
            odd = {"model": f"model {shown}", "processes": f"{shown} processes"}.get(
                name, f"{name.removeprefix('options.')}={shown}"
            )
            raise OptionError("resume", True, f"the run in {run} was started with {odd}: give the same again")
    elif resume:
        raise OptionError("resume", True, f"there is no unfinished run for {out}: leave it out to start one")
    else:
        write_json(note, given)
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
