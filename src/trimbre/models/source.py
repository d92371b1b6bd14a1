"""The model argument of public functions: a path, a name on the Hub, a model in memory or a (model, processor) pair."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.errors import OptionError, UserError
from trimbre.models.checkpoint import fits, load_plan
from trimbre.models.fitness import check_recogniser
from trimbre.models.hub import name_in_cache
from trimbre.models.loading import Recogniser, load_model, load_processor, locate
from trimbre.plan import Plan

ModelLike: TypeAlias = str | Path | PreTrainedModel | tuple[PreTrainedModel, ProcessorMixin]


@dataclass(frozen=True, eq=False)
class ModelSource:
    """A model as it was given, ready to run: in eval mode and float32, on the device that was asked for."""

    name: str
    """The path or Hub name; of a model in memory what it was loaded from, else its class."""
    recogniser: Recogniser
    path: Path | None = None
    """Directory that the weights were read from, in the cache for a model from the Hub; None for one in memory that has
    none or was changed since."""

    def plan(self) -> Plan | None:
        """What an earlier pruning kept of the dense model, where the checkpoint says so."""
        return None if self.path is None else load_plan(self.path)


def resolve_model(
    model: ModelLike, processor: ProcessorMixin | None = None, *, device: torch.device | str = "cpu", own: bool = False
) -> ModelSource:
    """Load a model, or prepare one that is in memory without changing it.

    Args:
        model: directory or Hub name; or a model of transformers, alone or in a pair with its processor.
        processor: needed for a model alone; beside a path, used in place of the checkpoint's.
        device: where the model will run. A model in memory that is elsewhere, in train mode or not in float32 is
            copied; otherwise it is used as it is.
        own: copy a model in memory in any case, for a caller that changes it.

    Raises:
        UserError: there is no such model, or its processor is missing or not its own.
    """
    if isinstance(model, tuple):
        if len(model) != 2 or processor is not None:
            raise UserError("model=(...): give a pair (model, processor), and no processor beside it")
        model, processor = model
    if isinstance(model, str | Path):
        name, folder = locate(model)
        loaded = load_model(folder, name)
        processor = processor or load_processor(folder, name)
        check_recogniser(loaded, processor, name)
        return ModelSource(name, Recogniser(loaded.to(device), processor), folder)  # type: ignore[arg-type]
    if not isinstance(model, PreTrainedModel):
        raise OptionError("model", type(model).__name__, "give a path, a name on the Hub or a model of transformers")
    if processor is None:
        raise OptionError("processor", None, "a model in memory needs its processor beside it: give both")
    given = model.name_or_path or type(model).__name__
    name = name_in_cache(given) or given
    check_recogniser(model, processor, name)
    ready = _ready(model, torch.device(device), own=own)
    return ModelSource(name, Recogniser(ready, processor), _checkpoint_of(model))


def _ready(model: Any, device: torch.device, *, own: bool) -> PreTrainedModel:
    """The model itself where it can run as it is, else a copy that can."""
    parameters = list(model.parameters())
    place = torch.empty(0, device=device).device  # with its index
    same_place = all(parameter.device == place for parameter in parameters)
    precise = all(parameter.dtype == torch.float32 for parameter in parameters)
    if same_place and precise and not model.training and not own:
        return model
    return copy.deepcopy(model).float().eval().to(device)


def _checkpoint_of(model: Any) -> Path | None:
    """The local checkpoint that a model in memory was loaded from, where it still has the shape that it had there."""
    if not model.name_or_path or not Path(model.name_or_path).is_dir():
        return None
    folder = Path(model.name_or_path)
    plan = load_plan(folder)
    return folder if plan is None or fits(plan, model) else None
