"""Loading a recogniser, dense or pruned, from a directory or the hub."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoProcessor, PreTrainedModel, ProcessorMixin

import trimbre.auto  # noqa: F401  registers the pruned classes
from trimbre.errors import UserError
from trimbre.models.checkpoint import refuse_pickles
from trimbre.models.device import resolve_device
from trimbre.models.families.registry import UnknownModelError, expose, family_of, unknown_family
from trimbre.models.modeling_trimbre import FORMAT


class Recogniser(NamedTuple):
    """A model and the processor that feeds it and reads its output."""

    model: PreTrainedModel
    processor: ProcessorMixin


def load(path: str | Path, *, revision: str | None = None, device: str | torch.device = "cpu") -> Recogniser:
    """Load a recogniser, dense or pruned, in eval mode and float32.

    Args:
        path: a directory as `save_pretrained` or Trimbre writes it, or the name of a model on the Hub.
        revision: branch, tag or commit of a model on the Hub; its newest by default.
        device: where the model is to run: `cpu`, `cuda`, `mps`, or `auto` for the accelerator where there is one.

    Raises:
        ValueError: nothing that can be loaded is there, or there is no such device.
    """
    place = resolve_device(device)
    name = str(path)
    local = Path(name)
    if name and local.exists():
        _check_directory(local)
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"no model {name!r}: name a directory that holds a config.json, or OWNER/NAME on the Hub")
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
        family = family_of(config)
        if getattr(config, "trimbre", None):
            expose(family)  # also one that was registered where the model was pruned, and not here
        auto = getattr(transformers, family.head.auto_class)
        model, found = auto.from_pretrained(
            name, revision=revision, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
        processor = AutoProcessor.from_pretrained(name, revision=revision, trust_remote_code=False)
    except UnknownModelError as error:  # the model is sound, but its task another
        raise unknown_family(f"{name}, a {config.model_type},") from error
    # a config or layout that was tampered with fails in as many ways as there are
    except (OSError, ValueError, RuntimeError, LookupError, AttributeError, TypeError, SafetensorError) as error:
        where = "" if local.exists() else ", which is no directory here, from the Hub"
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"cannot load the model {name}{where}: {reason}") from error
    if lacking := sorted(found["missing_keys"]):  # transformers would leave these random
        raise UserError(f"the model {name} lacks {len(lacking)} of its weights, such as {lacking[0]}: fetch it again")
    return Recogniser(model.float().eval().to(place), processor)


def _check_directory(path: Path) -> None:
    """Raise UserError where transformers would fail late or in other words than the user's."""
    if path.is_file():
        refuse_pickles(path)
        raise UserError(f"the model {path} is a file: give the directory that holds its config.json")
    refuse_pickles(path)
    config = path / "config.json"
    if not config.is_file():
        raise UserError(f"the model {path} has no config.json: give a directory that save_pretrained wrote")
    try:
        layout = json.loads(config.read_text()).get("trimbre")
        newer = bool(layout) and layout["format"] > FORMAT
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise UserError(f"cannot read {config}: {error}") from error
    if newer:
        raise UserError(
            f"{path} is a checkpoint of format {layout['format']} and this Trimbre reads up to {FORMAT}: update Trimbre"
        )
