"""Loading a recogniser, dense or pruned, from a directory or the Hub."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoProcessor, PreTrainedModel, ProcessorMixin

import trimbre.auto  # noqa: F401  registers the pruned classes
from trimbre.errors import OptionError, UserError, reason
from trimbre.models.checkpoint import PLAN, fits, load_plan
from trimbre.models.device import resolve_device
from trimbre.models.families.registry import UnknownModelError, expose, family_of, unknown_family
from trimbre.models.fitness import check_recogniser
from trimbre.models.folder import check_folder, check_processor_files
from trimbre.models.hub import fetch, hub_model


class Recogniser(NamedTuple):
    """A model and the processor that feeds it and reads its output."""

    model: PreTrainedModel
    processor: ProcessorMixin


def load(path: str | Path, *, revision: str | None = None, device: str | torch.device = "cpu") -> Recogniser:
    """Load a recogniser, dense or pruned, in eval mode and float32.

    Args:
        path: a directory as `save_pretrained` or Trimbre writes it, or a model on the Hub: `OWNER/NAME`,
            `OWNER/NAME@REVISION` or the address of its page.
        revision: branch, tag or commit of a model on the Hub; its newest by default.
        device: where the model is to run: `cpu`, `cuda`, `mps`, or `auto` for the accelerator where there is one.

    Raises:
        ValueError: nothing that can be loaded is there, its parts do not belong together, or there is no such device.
    """
    place = resolve_device(device)
    name, folder = locate(path, revision=revision)
    model, processor = load_model(folder, name), load_processor(folder, name)
    check_recogniser(model, processor, name)
    return Recogniser(model.to(place), processor)  # type: ignore[arg-type]


class Located(NamedTuple):
    """Where a model is."""

    name: str
    """Its path as given, or `OWNER/NAME@REVISION`."""
    folder: Path


def locate(path: str | Path, *, revision: str | None = None) -> Located:
    """The directory of a model: the one that is named, or that of its files from the Hub; `load` has the arguments.

    Raises:
        UserError: there is none.
    """
    name = str(path)
    local = Path(name)
    if name and local.exists():
        if revision is not None:
            raise OptionError("revision", revision, f"{name} is a directory here and no model on the Hub: leave it out")
        return Located(name, local)
    if (model := hub_model(name, revision)) is None:
        raise UserError(f"no model {name!r}: name a directory that holds a config.json, or OWNER/NAME on the Hub")
    return Located(str(model), fetch(model))


def load_model(folder: Path, name: str) -> PreTrainedModel:
    """The model in a directory, in eval mode and float32.

    Args:
        name: of the model in messages, as the user gave it.

    Raises:
        UserError: it cannot be loaded, or not as its authors saved it.
    """
    renamed = check_folder(folder, name)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        family = family_of(config)
        if getattr(config, "trimbre", None):
            expose(family)  # also one that was registered where the model was pruned, and not here
        model, found = getattr(transformers, family.head.auto_class).from_pretrained(
            folder,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # which are refused here, by name
            key_mapping=renamed or None,
        )
    except UnknownModelError as error:  # the model is sound, but its task another
        raise unknown_family(f"{name}, a {config.model_type},") from error
    except Exception as error:  # a config or layout that was tampered with fails in as many ways as there are
        raise _cannot_load(name, error) from error
    _refuse_other_weights(model, found, config.architectures, name)
    _refuse_other_plan(model, folder, name)
    model = model.float().eval()
    if spoiled := [weight for weight, value in model.state_dict().items() if not value.isfinite().all()]:
        raise UserError(
            f"{len(spoiled)} of the weights of the model {name} are not finite, such as {spoiled[0]}: "
            "give one whose training did not diverge"
        )
    return model


def load_processor(folder: Path, name: str) -> ProcessorMixin:
    """The processor in a directory; `load_model` describes the arguments.

    Raises:
        UserError: it lacks a part, or cannot be loaded.
    """
    check_processor_files(folder, name)
    try:
        processor: ProcessorMixin = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise _cannot_load(f"{name}, its processor", error) from error
    return processor


def _cannot_load(what: str, error: Exception) -> UserError:
    if "trust_remote_code" in str(error):
        return UserError(
            f"the model {what} comes with code of its own, which Trimbre does not run: give one of an architecture "
            "that transformers has"
        )
    said = reason(error)
    said = said if "<class" not in said else str(error).splitlines()[0].rstrip(": ")  # lists of types follow
    return UserError(f"cannot load the model {what}: {said[:300]}")


def _refuse_other_plan(model: PreTrainedModel, folder: Path, name: str) -> None:
    """Raise UserError where the plan beside the weights is of a model of another shape."""
    if (plan := load_plan(folder)) is None or family_of(model).anatomy is None:  # a family registered elsewhere
        return
    if not fits(plan, model):
        raise UserError(f"the {PLAN} of the model {name} is of another model: give the one that was written with it")


def _refuse_other_weights(model: nn.Module, found: Any, architectures: list[str] | None, name: str) -> None:
    """Raise UserError where a model's weights are not those that its config describes.

    transformers would leave missing ones random and pass over those that have no place.
    """
    made = type(model).__name__
    stated = next(iter(architectures or []), made)
    lacking, spare = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    if lacking and stated != made:
        raise UserError(
            f"the model {name} is a {stated}, without the weights of a {made}, such as {lacking[0]}: give a model that "
            "was trained to recognise speech"
        )
    if lacking and spare:
        raise UserError(
            f"the model {name} lacks {len(lacking)} of its weights, such as {lacking[0]}, and has others, such as "
            f"{spare[0]}: save it again by save_pretrained, of the model itself and not of what wraps it"
        )
    if lacking:
        raise UserError(f"the model {name} lacks {len(lacking)} of its weights, such as {lacking[0]}: fetch it again")
    if other := sorted(found["mismatched_keys"]):
        weight, saved, expected = other[0][0], *(_shape(size) for size in other[0][1:])
        raise UserError(
            f"{len(other)} of the weights of the model {name} have another shape than its config.json says, such as "
            f"{weight} ({saved} in place of {expected}): give the config.json that was saved with them"
        )
    if homeless := [weight for weight in spare if _within_layers(model, weight)]:
        raise UserError(
            f"the config.json of the model {name} has no place for {len(homeless)} of its weights, such as "
            f"{homeless[0]}: give the one that was saved with them"
        )


def _shape(size: Any) -> str:
    return "x".join(map(str, size))


def _within_layers(model: nn.Module, weight: str) -> bool:
    """Whether a weight is of a stack of layers that the model has; pretraining leaves others beside them."""
    modules = dict(model.named_modules())
    parts = weight.split(".")
    return any(isinstance(modules.get(".".join(parts[:end])), nn.ModuleList) for end in range(1, len(parts)))
