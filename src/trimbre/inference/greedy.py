"""From audio to text, greedily: the most likely label of every CTC frame, or a decoder's most likely next token.

Or, with a decoding graph, the most likely sentence of those that it holds.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import StoppingCriteria, StoppingCriteriaList

from trimbre.models.inputs import output_lengths


class Graph(Protocol):
    """What finds a sentence in the scores of an utterance; `trimbre.inference.graph.decoder` has it."""

    def text(self, scores: np.ndarray) -> str:
        """The most likely sentence of (frames, labels) logarithms of probabilities."""

    def to_json(self) -> dict[str, Any]:
        """What reports tell of it."""


# Not inference_mode: models that cache position embeddings (rotary Wav2Vec2-Conformer) keep an inference
# tensor then, and the next training step cannot differentiate through it.
@torch.no_grad()
def frame_logits(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Run the model on a padded batch.

    Args:
        model: a CTC model of transformers, in the mode that the caller wants (eval, to compare figures).
        inputs: what its forward takes, on any device; labels are left out.

    Returns:
        (frames, labels) of each utterance, its valid output frames alone, on the model's device.
    """
    weights = next(model.parameters(), None)
    device = "cpu" if weights is None else weights.device  # an exported model has none
    moved = {name: value.to(device) for name, value in inputs.items() if name != "labels"}
    logits = model(**moved).logits
    lengths = output_lengths(model, moved)
    if lengths is None:
        return list(logits)
    return [row[:length] for row, length in zip(logits, lengths.tolist(), strict=True)]


def frame_labels(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[list[int]]:
    """The most likely label of every valid frame of each utterance; takes what `frame_logits` takes."""
    return [logits.argmax(-1).tolist() for logits in frame_logits(model, inputs)]


def frame_scores(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[np.ndarray]:
    """Logarithms of probabilities, (frames, labels), of each utterance; takes what `frame_logits` takes."""
    return [logits.float().log_softmax(-1).cpu().numpy() for logits in frame_logits(model, inputs)]


def blank_id(model: nn.Module) -> int:
    """The label that says "nothing here": transformers' CTC models use the padding token."""
    return int(model.config.pad_token_id)  # type: ignore[union-attr, arg-type]


def collapse(labels: Sequence[int], blank: int) -> list[int]:
    """Merge repeated labels, then drop blanks (Graves et al. 2006): a blank keeps two equal letters apart."""
    return [label for label, _ in groupby(labels) if label != blank]


def spell(labels: Sequence[int], *, processor: Any, blank: int) -> str:
    """Turn one utterance's frame labels into text, as the processor's own CTC decoding spells it."""
    # group_tokens=False: the tokenizer must not merge again the repeats that a blank has kept apart.
    return processor.tokenizer.decode(collapse(labels, blank), group_tokens=False)


@torch.no_grad()
def generated(
    model: Any,
    inputs: Mapping[str, Tensor],
    processor: Any,
    *,
    language: str | list[str] | None = None,
    until: StoppingCriteria | None = None,
) -> list[str]:
    """Let a decoder write the text of every window of a batch, the most likely token after each other.

    Args:
        model: a Whisper of transformers, in eval mode; its generation config says which tokens it may not write.
        language: what is spoken, such as `en`, or that of every window; None lets a multilingual model decide. An
            English-only one needs none.
        until: ends a text before the model does.
    """
    heard = {name: value.to(model.device) for name, value in inputs.items() if name not in ("labels", "attention_mask")}
    spoken = (
        {"language": language, "task": "transcribe"}
        if getattr(model.generation_config, "is_multilingual", False)
        else {}
    )
    # All of a window is heard, silence included. Tokens that pad a batch's texts are the end token again.
    mask = torch.ones(heard["input_features"].shape[::2], dtype=torch.long, device=model.device)
    ends = None if until is None else StoppingCriteriaList([until])
    tokens = model.generate(
        **heard, attention_mask=mask, num_beams=1, do_sample=False, stopping_criteria=ends, **spoken
    )
    return [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]


def greedy(model: Any, inputs: Mapping[str, Tensor], processor: Any) -> list[str]:
    """Recognise a padded batch greedily.

    Args:
        model: a CTC model or a Whisper of transformers; runs on its own device, in the mode it is in.
        inputs: what its forward takes, e.g. `input_features` (batch, frames, mels) and `attention_mask`
            (batch, frames), or `input_values` (batch, samples); labels are left out.
        processor: the model's processor; its tokenizer spells the labels.

    Returns:
        One text per utterance, the same as `processor.decode` and `pipeline()` of transformers give.
    """
    if model.config.is_encoder_decoder:
        return generated(model, inputs, processor)
    blank = blank_id(model)
    return [spell(labels, processor=processor, blank=blank) for labels in frame_labels(model, inputs)]


def recognise(model: Any, inputs: Mapping[str, Tensor], processor: Any, graph: Graph | None = None) -> list[str]:
    """Recognise a padded batch: greedily, or by a decoding graph. Takes and gives what `greedy` does."""
    if graph is None:
        return greedy(model, inputs, processor)
    return [graph.text(scores) for scores in frame_scores(model, inputs)]
