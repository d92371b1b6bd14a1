"""Models whose projections are all called as modules, so that hooks on them see what goes in and out."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from trimbre.models.modeling_trimbre import separate_heads


@contextmanager
def hookable(*models: nn.Module) -> Iterator[None]:
    """Give modules that read the weights of their projections themselves (WavLM's attention) an equal forward that
    calls them; on leaving, every module is of the class that it was of."""
    before = [(module, type(module)) for model in models for module in model.modules()]
    for module, _ in before:
        separate_heads(module)
    try:
        yield
    finally:
        for module, made in before:
            if type(module) is not made:
                module.__class__ = made
