"""From a padded batch to text: greedily, or by a decoding graph; how is the model's head to say."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from trimbre.models.families.registry import head_of
from trimbre.models.heads.base import TextDecoder


def greedy(
    model: Any,
    inputs: Mapping[str, Tensor],
    processor: Any,
    *,
    languages: Sequence[str | None] = (),
    task: str | None = None,
) -> list[str]:
    """Recognise a padded batch, a decoder's text as its generation config says.

    Args:
        model: of transformers; runs on its own device, in the mode it is in.
        inputs: what its forward takes, e.g. `input_features` (batch, frames, mels) and `attention_mask`
            (batch, frames), or `input_values` (batch, samples); labels are left out.
        processor: the model's processor; its tokenizer spells the labels.
        languages: of each utterance, for models that are told it; None takes the preset one, or the model detects it.
        task: `transcribe` or `translate`, for models that are told it; None takes the preset one.

    Returns:
        One text per utterance, the same as `processor.decode` and `pipeline()` of transformers give.

    Raises:
        OptionError: the model cannot be given that language or task.
    """
    return head_of(model).greedy(model, inputs, processor, languages=languages, task=task)


def recognise(
    model: Any,
    inputs: Mapping[str, Tensor],
    processor: Any,
    graph: TextDecoder | None = None,
    *,
    languages: Sequence[str | None] = (),
    task: str | None = None,
) -> list[str]:
    """Recognise a padded batch, by a decoding graph where one is given; takes and returns what `greedy` does."""
    if graph is None:
        return greedy(model, inputs, processor, languages=languages, task=task)
    return head_of(model).by_graph(model, inputs, graph)
