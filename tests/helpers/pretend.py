"""A device that is not there: tensors that say they are on it, compute on the CPU, and refuse those that are not.

It shows, on a machine without an accelerator, that inputs are moved to a model's device and outputs brought back. What
it cannot imitate is `torch.tensor([...], device=...)`, which `generate` of transformers needs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

AWAY = torch.device("meta")
"""Every build of torch has its name and its guards; what would compute nothing there is computed on the CPU here."""


class AwayTensor(torch.Tensor):
    """A tensor on `AWAY`; `here` is its content."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "AwayTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), dtype=here.dtype, device=AWAY, requires_grad=False
        )
        made.here = here
        return made

    def __repr__(self, **_: Any) -> str:
        return f"AwayTensor({self.here})"

    def tolist(self) -> Any:
        return self.here.tolist()  # as on every device

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Tensors that are made on `AWAY` become such."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
INDEXED = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default}
"""They take indices on the CPU, as on an accelerator."""


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    away = [one for one in tensors if isinstance(one, AwayTensor)]
    asked = kwargs.get("device")
    to_away = bool(away) if asked is None else torch.device(asked).type == AWAY.type
    strangers = [one for one in tensors if not isinstance(one, AwayTensor) and one.dim() > 0]
    if away and strangers and function not in MOVES | INDEXED:
        raise RuntimeError(f"{function}: tensors on cpu and {AWAY}")
    if asked is not None:
        kwargs = kwargs | {"device": "cpu"}

    def unwrap(one: Any) -> Any:
        return one.here if isinstance(one, AwayTensor) else one

    found = function(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
    if function is torch.ops.aten.copy_.default or str(function).partition(".")[2].partition(".")[0].endswith("_"):
        return args[0]
    return tree_map(lambda one: AwayTensor(one) if isinstance(one, torch.Tensor) and to_away else one, found)


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """Within it, `model.to(AWAY)` and tensors on `AWAY` work."""
    with _Mode():
        yield AWAY
