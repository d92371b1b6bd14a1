"""The registry of families: all that Trimbre knows of one family of models, registered in one line.

trimbre.register_family(Family(name="sew", classes=("SEWForCTC",), head=CTC(), anatomy=anatomy))
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import transformers
from torch import nn
from transformers.models.auto import modeling_auto

from trimbre.config import RUNTIMES
from trimbre.errors import OptionError, UserError
from trimbre.models import modeling_trimbre
from trimbre.models.anatomy import Anatomy
from trimbre.models.heads.base import Head
from trimbre.models.heads.ctc import CTC
from trimbre.models.heads.seq2seq import Seq2Seq

_SHIPPED = (
    "parakeet",
    "parakeet_tdt",
    "parakeet_rnnt",
    "wav2vec2_conformer",
    "wav2vec2",
    "wavlm",
    "wav2vec2_bert",
    "whisper",
    "moonshine",
    "moonshine_streaming",
    "cohere_asr",
    "canary",
    "lasr",
    "granite_speech5",
)
"""Modules of this package, each with a FAMILY."""

_TASKS = {"MODEL_FOR_CTC_MAPPING_NAMES": CTC(), "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES": Seq2Seq()}
"""transformers' tables of models by task, and the head that their models have where no family says more."""


@dataclass(frozen=True)
class Family:
    """One family of models."""

    name: str
    classes: tuple[str, ...]
    """Names of the transformers classes that it covers."""
    head: Head
    anatomy: Callable[[Any], Anatomy] | None
    """A model, dense or pruned before -> what can be cut from it; None for models that can be run but not pruned."""
    runtimes: tuple[str, ...] = ("onnx",)
    """Names of `config.RUNTIMES` that it can be exported to."""
    exporter: str = ""
    """The module of `trimbre.exporting` that knows its graphs; by default the one of its head's name."""
    forms: Mapping[str, str] = field(default_factory=dict)
    """Class of a module in it -> the form that takes its place in an exported graph, by a name that
    `trimbre.exporting.traceable` or `trimbre.exporting.rewrites` knows."""


def register_family(family: Family) -> None:
    """Make a family known, in place of any that covered its classes, also to transformers' Auto classes.

    Raises:
        ValueError: transformers has no class of that name, there is no such runtime, or another family has the name.
    """
    for name in family.classes:
        if not modeling_trimbre.is_model_class(name):
            raise OptionError("classes", family.classes, f"transformers has no model {name}", owner="Family")
    for runtime in set(family.runtimes) - set(RUNTIMES):
        raise OptionError("runtimes", runtime, f"give names of {', '.join(RUNTIMES)}", owner="Family")
    namesakes = [one for one in families() if one.name == family.name and not set(one.classes) <= set(family.classes)]
    if namesakes:
        raise OptionError("name", family.name, "another family has this name: choose another", owner="Family")
    _families().update(dict.fromkeys(family.classes, family))
    expose(family)


def families() -> Iterable[Family]:
    """All families that are known, ours first."""
    return {family.name: family for family in _families().values()}.values()


def known_families() -> list[str]:
    """Names of the families that can be pruned; docs/models.md has their classes, which are many."""
    return sorted({family.name for family in _families().values() if family.anatomy})


def family_of(model: Any) -> Family:
    """The family of a model or of a config.

    Models that transformers loads for a task of ours but no family covers are families of their own without anatomy:
    they can be evaluated, and not pruned.

    Raises:
        UnknownModelError: it is no model of speech recognition.
    """
    name, model_type = type(model).__name__, getattr(model, "model_type", None)  # which configs have
    covered = _families()
    if name in covered:
        return covered[name]
    for known, family in reversed(covered.items()):
        if model_type and _config_of(known) == name:
            return family
    for table, head in _TASKS.items():
        tasks = getattr(modeling_auto, table)
        if name in tasks.values() or model_type in tasks:
            made = tasks.get(model_type, name)
            return Family(made, (made,), head, None, runtimes=("onnx",) if head.name == "ctc" else ())
    raise unknown_family(f"a {name}")


def head_of(model: Any) -> Head:
    """The head of a model or of a config; of what imitates a model, such as an exported one, its attribute `head`."""
    own = getattr(model, "head", None)
    return own if isinstance(own, Head) else family_of(model).head


def anatomy_of(model: nn.Module) -> Anatomy:
    """Describe what can be cut from `model` as it stands, pruned before or not.

    Raises:
        UnknownModelError: the model's class has no anatomy.
    """
    describe = family_of(model).anatomy
    if describe is None:
        raise unknown_family(type(model).__name__)
    return describe(model)


class UnknownModelError(UserError):
    """A model of a class that no family covers."""


def unknown_family(name: str) -> UnknownModelError:
    """What to say of a model of another class or type."""
    return UnknownModelError(
        f"{name} is not a model that Trimbre can prune yet (it knows {', '.join(known_families())}): "
        "describe it by trimbre.register_family as docs/adding-a-family.md does, or give a model of one of these"
    )


def cut_class(model: Any) -> type:
    """The class of a model once it is cut: transformers' own, whose modules may differ in width."""
    return _cut_class(type(model).__name__, family_of(model).head.auto_class)


def expose(family: Family) -> None:
    """Let the Auto class of a family's head load cut models of its classes."""
    auto = getattr(transformers, family.head.auto_class)
    for name in family.classes:
        made = _cut_class(name, family.head.auto_class)
        auto.register(made.config_class, made, exist_ok=True)


def _cut_class(name: str, auto_class: str) -> Any:
    made = getattr(modeling_trimbre, name)
    made.register_for_auto_class(auto_class)
    return made


@cache
def _config_of(name: str) -> str:
    """Name of the config that a class of transformers is made from."""
    return str(getattr(transformers, name).config_class.__name__)


@cache
def _families() -> dict[str, Family]:
    """Class name -> its family. Ours are imported when one is first asked for: they import this module."""
    ours = [import_module(f"trimbre.models.families.{module}").FAMILY for module in _SHIPPED]
    return {name: family for family in ours for name in family.classes}
