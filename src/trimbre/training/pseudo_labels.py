"""Pseudo-labels: text of the teacher for audio without transcripts, as decoder input and labels."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from trimbre.data.batches import Batch
from trimbre.models.families.registry import head_of
from trimbre.models.heads.base import Texts
from trimbre.models.loading import Recogniser


class PseudoLabeller:
    """Adds to batches the text that the teacher's head takes beside the audio (`Head.add_texts`).

    Args:
        precision: makes the context that the teacher runs in, such as `accelerator.autocast`.
        writer: writes the texts in place of the teacher, whose vocabulary may lack some of its tokens; the tokens that
            the texts are spelled with are the teacher's all the same.
    """

    def __init__(
        self,
        teacher: PreTrainedModel,
        processor: ProcessorMixin,
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
        writer: Recogniser | None = None,
    ):
        self.teacher, self.processor, self.precision, self.writer = teacher, processor, precision, writer
        self.head = head_of(teacher)

    def __call__(self, batch: Batch) -> Batch:
        """The batch with its text as decoder input and labels; where there is no transcript, the teacher writes it."""
        given = Texts(batch.inputs, batch.labels, batch.texts)
        how: dict[str, Any] = {"languages": batch.languages, "precision": self.precision}
        if self.writer is not None and None in given.texts:
            given = given._replace(texts=self.head.add_texts(*self.writer, given, **how).texts)
        inputs, labels, texts = self.head.add_texts(self.teacher, self.processor, given, **how)
        return replace(batch, inputs=inputs, labels=labels, texts=texts)
