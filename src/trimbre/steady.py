"""Matrix products of few sizes, for a CPU that would otherwise write machine code for every batch anew.

oneDNN compiles a kernel for every size of a product it meets. A batch of speech is as long as its utterances, so that
nearly every batch has sizes of its own, and a pruned model has as many kinds of product as it has layers. With a small
model on short batches a third of a training step goes into compiling what is used once.
"""

import math
import os
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

ROWS = 128
"""Rows come in multiples of it: with fewer, sizes are many; with more, products are of nothing but padding."""

# oneDNN keeps 1,024 kernels and forgets the oldest. It reads this once, when it first computes.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")


class SteadyRows(TorchFunctionMode):
    """Within it, linear layers fill the rows that they multiply up to a multiple of `ROWS` with zeros, cut off again.

    What comes out is the same but for rounding, and so are gradients: rows of zeros add nothing to a weight's. A
    backward that computes activations again has to enter it again (`trimbre.memory.recomputed`).
    """

    holds = 0
    """How many are entered: more than none within one."""

    def __enter__(self) -> "SteadyRows":
        SteadyRows.holds += 1
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        SteadyRows.holds -= 1

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, a linear layer on filled rows."""
        given = kwargs or {}
        if func is functional.linear and args:
            return self._filled(*args, **given)
        return func(*args, **given)

    @staticmethod
    def _filled(rows: Tensor, *weights: Any, **named: Any) -> Tensor:
        *shape, width = rows.shape
        count = math.prod(shape)
        flat = functional.pad(rows.reshape(count, width), (0, 0, 0, -count % ROWS))
        product = functional.linear(flat, *weights, **named)
        return product[:count].reshape(*shape, product.shape[-1])
