"""The registry of families: which model classes can be pruned, and what describes them."""

from collections.abc import Callable
from typing import Any

from torch import nn

from trimbre.errors import UserError
from trimbre.models.anatomy import Anatomy

Describe = Callable[[Any], Anatomy]


_families: dict[str, str] = {
    "ParakeetForCTC": "parakeet",
    "Wav2Vec2ConformerForCTC": "wav2vec2_conformer",
    "WhisperForConditionalGeneration": "whisper",
}
"""Model class -> module of this package whose `describe(model)` knows it.

To add a family, write one and name it here, and let it be loaded: by a class in `modeling_trimbre.py`, registered in
`auto.py`.
"""


def known_families() -> list[str]:
    """Names of the model classes that can be pruned."""
    return sorted(_families)


def unknown_family(name: str) -> UserError:
    """What to say of a model of another class or type."""
    return UserError(
        f"{name} is not a model that Trimbre can prune yet (it knows {', '.join(known_families())}): "
        "describe it in a file of trimbre/models/families/, as registry.py says, or give a model of one of these"
    )


def anatomy_of(model: nn.Module) -> Anatomy:
    """Describe what can be cut from `model` as it stands, pruned before or not.

    Raises:
        UserError: the model's class has no anatomy.
    """
    from importlib import import_module

    name = type(model).__name__
    if name not in _families:
        raise unknown_family(name)
    return import_module(f"trimbre.models.families.{_families[name]}").describe(model)
