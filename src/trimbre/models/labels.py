"""Token ids as models take them for labels."""

from collections.abc import Sequence

import torch
from torch import Tensor


def padded_labels(rows: Sequence[Sequence[int]]) -> Tensor:
    """(batch, tokens) of token ids, filled up with -100: one column at least, for models ask which is the largest."""
    tensors = [torch.tensor(list(row) or [-100]) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=-100)
