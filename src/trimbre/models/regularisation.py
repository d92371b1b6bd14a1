"""Training without layer drop, masking or dropout, which a teacher does not have."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

DISTURBANCES = {
    "layerdrop": 0.0,
    "apply_spec_augment": False,
    "use_cache": False,
    "ctc_zero_infinity": True,
    "ctc_loss_reduction": "mean",
}
"""Settings by which some families disturb a model in train mode, with the value that keeps them from it.

A decoder would also keep keys and values for tokens to come, which don't come in training; a single transcript with
more to write than its audio has frames would make the loss infinite; and a task's loss that adds up over texts and
tokens would drown what the teacher says.
"""


@contextmanager
def without_regularisation(model: nn.Module) -> Iterator[None]:
    """Keep every layer, every input and every unit in train mode: all are compared one by one with the teacher's.

    Parakeet drops a tenth of its layers by default, Wav2Vec2-Conformer also masks its input by itself, and both have
    dropout, noise that the teacher doesn't have and that a short recovery has no time to average out.
    """
    settings = []
    for holder in _holders(model):
        names = DISTURBANCES | dict.fromkeys((n for n in vars(holder) if n.endswith("dropout")), 0.0)
        names |= {"p": 0.0} if isinstance(holder, nn.Dropout) else {}
        for name, calm in names.items():
            if isinstance(value := getattr(holder, name, None), bool | float | str) and value != calm:
                settings.append((holder, name, value))
                setattr(holder, name, calm)
    try:
        yield
    finally:
        for holder, name, value in settings:
            setattr(holder, name, value)


def _holders(model: nn.Module) -> list[Any]:
    """Modules, and the configs that they read."""
    configs = {id(config): config for config in (getattr(m, "config", None) for m in model.modules())}
    return [*model.modules(), *(c for c in configs.values() if isinstance(c, PreTrainedConfig))]
