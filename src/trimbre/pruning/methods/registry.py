"""The pruning methods by name: those of this package, imported when they are asked for, and those of users."""

from importlib import import_module
from typing import TYPE_CHECKING, Union

from trimbre.errors import OptionError

if TYPE_CHECKING:
    from trimbre.pruning.methods.base import Method

_methods: dict[str, Union[str, "Method"]] = {
    "curvature": "curvature",
    "l0": "l0",
    "modules": "modules",
    "taylor-iterative": "taylor_iterative",
    "taylor": "taylor",
    "llm-pruner": "llm_pruner",
    "llm-pruner-vector": "llm_pruner_vector",
    "flap": "flap",
    "wanda": "wanda",
    "minitron": "minitron",
    "activation": "activation",
    "magnitude": "magnitude",
    "shortgpt": "shortgpt",
    "layers": "layers",
    "random": "at_random",
}
"""Name -> method, or the module of this package that is one."""


def known_methods() -> tuple[str, ...]:
    """Names of the registered methods, as `PruneConfig.method` takes them."""
    return tuple(_methods)


def register_method(name: str, method: "Method") -> None:
    """Make a method available as `PruneConfig(method=name)`.

    A method is a module or an object with a flag `TRAINS` and a function `choose(model, context, target)` that returns
    a `MethodResult`; see `trimbre.pruning.methods.base.Method`. A name can be registered again, except for those of
    Trimbre's own methods. With several processes, each has to register it.

        class Narrowest:
            TRAINS = False

            def choose(self, model, context, target):
                return one_shot(plan_for_target(target, my_scores(model)), target)

        trimbre.register_method("narrowest", Narrowest())

    Raises:
        OptionError: the name is that of one of Trimbre's own methods, or the method lacks one of the two.
    """
    if isinstance(_methods.get(name), str):
        raise OptionError("name", name, "Trimbre has a method of this name: choose another")
    for needed in ("TRAINS", "choose"):
        if not hasattr(method, needed):
            raise OptionError("method", method, f"it has no `{needed}`: see trimbre.pruning.methods.base.Method")
    _methods[name] = method


def method_called(name: str) -> "Method":
    """The method of this name; raises OptionError for one that is not registered."""
    if name not in _methods:
        raise OptionError("method", name, f"choose one of {', '.join(_methods)}", owner="PruneConfig")
    found = _methods[name]
    if isinstance(found, str):
        module: Method = import_module(f"trimbre.pruning.methods.{found}")
        return module
    return found
