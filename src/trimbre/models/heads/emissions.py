"""Greedy decoding of transducers: frame by frame, a token at a time, until a blank or a duration leads on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

Predict: TypeAlias = Callable[[Tensor], Tensor]
"""The prediction network of a batch: (batch,) next tokens -> (batch, 1, dim) states. A blank leaves a state as it was,
but for the first call, which starts the texts."""
Joint: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(text, audio) states, (batch, 1, dim) each -> (batch, 1, labels) logits of tokens and, for TDT, of durations."""


class Emission(NamedTuple):
    """A token that decoding wrote."""

    token: int
    frame: int
    """Output frame that it was written at."""
    onward: int
    """Frames that decoding went on by with it: for TDT, as long as the token lasts."""


def greedy_emissions(
    predict: Predict,
    joint: Joint,
    audio: Tensor,
    lengths: Tensor,
    *,
    vocabulary: int,
    blank: int,
    durations: Sequence[int],
    most: int,
    written: int | None = None,
) -> list[list[Emission]]:
    """The most likely token at every step of every utterance.

    Args:
        audio: (batch, frames, dim) states of the encoder.
        lengths: (batch,) valid frames.
        vocabulary: labels that there are, `blank` among them.
        durations: what TDT's logits of durations stand for, in frames; none for RNN-T, whose blanks go on by one frame
            and tokens by none.
        most: RNN-T goes on to the next frame after so many tokens. TDT, whose tokens may last no frame, has no such
            limit in transformers, but one of so many steps for every frame of an utterance.
        written: tokens to write whatever the audio, evenly spread.
    """
    rows, scale = torch.arange(len(audio), device=audio.device), torch.tensor([*durations], device=audio.device)
    frame, repeated, count = (torch.zeros_like(lengths) for _ in range(3))
    token, active = torch.full_like(lengths, blank), torch.ones_like(lengths, dtype=torch.bool)
    found: list[list[Emission]] = [[] for _ in rows]
    steps = 0
    while active.any():
        at = audio[rows, frame.clamp_max(audio.shape[1] - 1)].unsqueeze(1)
        logits = joint(predict(token), at)[:, -1]
        scores = logits[:, :vocabulary]
        token = scores.argmax(-1)
        lasting = scale[logits[:, vocabulary:].argmax(-1)] if durations else torch.zeros_like(frame)
        if written is not None:
            due = (count < written) & (frame >= count * lengths // max(written, 1))
            token = scores.index_fill(-1, rows.new_tensor([blank]), -torch.inf).argmax(-1).where(due, blank)
            lasting = ((count + due) * lengths // max(written, 1) - frame).clamp(0, max(durations, default=0))
        token = token.where(active, blank)
        spoken = token != blank
        repeated, count = repeated + spoken, count + spoken
        passed = (~spoken | (repeated >= most)).long()
        onward = lasting.maximum((~spoken).long()) if durations else passed  # a blank goes on in any case
        for row in spoken.nonzero().flatten().tolist():
            found[row].append(Emission(int(token[row]), int(frame[row]), int(onward[row])))
        frame = frame + onward * active
        repeated = repeated * (onward == 0)
        steps += 1
        active = active & (frame < lengths) & (steps < most * lengths - 1)
    return found


def spell(emissions: Sequence[Emission], processor: Any) -> str:
    """The text of one utterance, as the processor's own decoding spells it."""
    tokens = [one.token for one in emissions]
    # group_tokens=False: a repeated token was written twice.
    return str(processor.tokenizer.decode(tokens, skip_special_tokens=True, group_tokens=False))
