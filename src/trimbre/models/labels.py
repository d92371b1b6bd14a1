"""Token ids as models take them for labels, and the vocabularies that they come from."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def padded_labels(rows: Sequence[Sequence[int]]) -> Tensor:
    """(batch, tokens) of token ids, filled up with -100: one column at least, for models ask which is the largest."""
    tensors = [torch.tensor(list(row) or [-100]) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=-100)


def letters_of(tokenizer: Any) -> dict[str, int]:
    """The part of a vocabulary that text is spelled with, token -> id: without special tokens and those added later."""
    apart = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    return {token: number for token, number in tokenizer.get_vocab().items() if token not in apart}
