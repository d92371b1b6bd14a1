"""How to decide what to cut: each method is a short file whose `choose(model, context, aim)` returns a MethodResult.

To add one, write its file and name it here. Nothing heavy is imported before a method is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from trimbre.errors import OptionError

if TYPE_CHECKING:
    from trimbre.pruning.methods.base import Method

_methods: dict[str, str] = {
    "curvature": "curvature",
    "l0": "l0",
    "modules": "modules",
    "taylor-iterative": "taylor_iterative",
    "taylor": "taylor",
    "activation": "activation",
    "magnitude": "magnitude",
    "layers": "layers",
    "random": "at_random",
}
"""Name as it's typed -> module of this package."""


def known_methods() -> tuple[str, ...]:
    """What `--method` takes."""
    return tuple(_methods)


def method_called(name: str) -> "Method":
    """The method of this name; raises UserError for one that isn't known."""
    if name not in _methods:
        raise OptionError("method", name, f"choose one of {', '.join(_methods)}", owner="PruneConfig")
    found: Method = import_module(f"trimbre.pruning.methods.{_methods[name]}")
    return found
