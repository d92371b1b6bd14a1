"""The text that a model reads while it is trained: transcripts, or the teacher's own words."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from trimbre.data.batches import Batch
from trimbre.models.families.registry import head_of
from trimbre.models.heads.base import Texts


class PseudoLabeller:
    """Gives a batch the text that the teacher's head wants beside the audio (`Head.add_texts`)."""

    def __init__(
        self,
        teacher: PreTrainedModel,
        processor: ProcessorMixin,
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ):
        self.teacher, self.processor, self.precision = teacher, processor, precision
        self.head = head_of(teacher)

    def __call__(self, batch: Batch) -> Batch:
        """The batch with its text as inputs and labels; without a transcript, the teacher writes one."""
        given = Texts(batch.inputs, batch.labels, batch.texts)
        inputs, labels, texts = self.head.add_texts(
            self.teacher, self.processor, given, languages=batch.languages, precision=self.precision
        )
        return replace(batch, inputs=inputs, labels=labels, texts=texts)
