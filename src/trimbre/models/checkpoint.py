"""Checkpoints: a directory that any transformers user recognises, whether the model was pruned or not.

A pruned one holds besides: `plan.json`, what was kept of the dense model, and `modeling_trimbre.py`, which rebuilds the
narrower modules with `trust_remote_code=True` where Trimbre isn't installed.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.files import directory_written_whole
from trimbre.models.families.registry import anatomy_of
from trimbre.plan import Plan

PLAN = "plan.json"


def save(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    out: Path,
    *,
    plan: Plan | None = None,
    card: str | None = None,
    half: bool = False,
    extra: dict[str, str] | None = None,
) -> Path:
    """Write model, processor, plan and model card to `out`, whole or not at all.

    Args:
        plan: what was kept of the dense model, for a pruned one.
        card: text of README.md.
        half: store the weights as float16; the config still says float32, so that they load as that.
        extra: further text files to write, name to content.
    """
    with directory_written_whole(out) as beside:
        write_into(beside, model, processor, half=half)
        if plan is not None:
            plan.save(beside / PLAN)
        for name, text in (({"README.md": card} if card else {}) | (extra or {})).items():
            (beside / name).write_text(text)
    return out


def write_into(folder: Path, model: PreTrainedModel, processor: ProcessorMixin, *, half: bool = False) -> None:
    """Write model and processor files to a folder that exists."""
    state: dict[str, Any] | None = None
    if half:
        stored = model.state_dict(keep_vars=True)
        halves = {
            id(value): (value.detach().half() if value.dtype == torch.float32 else value.detach())
            for value in stored.values()
        }
        state = {name: halves[id(value)] for name, value in stored.items()}  # tied weights stay tied
    stated = model.config.dtype
    model.config.dtype = torch.float32
    try:
        model.save_pretrained(folder, state_dict=state)
    finally:
        model.config.dtype = stated
    processor.save_pretrained(folder)


def load_plan(folder: str | Path) -> Plan | None:
    """The plan of a pruned checkpoint in a local folder, or None."""
    path = Path(folder) / PLAN
    return Plan.load(path) if path.is_file() else None


def fits(plan: Plan, model: Any) -> bool:
    """Whether a model has what a plan keeps: as many units in every module, and as many tokens.

    A module without units is as good as none.
    """
    anatomy = anatomy_of(model)
    if plan.vocabulary is not None and (anatomy.rows is None or anatomy.rows.tokens != len(plan.vocabulary.kept)):
        return False
    left = {path: width for path, width in plan.widths.items() if width}
    return left == {path: size for path, size in anatomy.sizes.items() if size}
