"""The task that a recogniser was made for, as a loss: what importance is measured by."""

from torch import Tensor
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.data.text import padded_labels
from trimbre.decoding import blank_id, collapse, frame_labels
from trimbre.distill import undisturbed


def transcript_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The loss a model is trained by, against the transcripts or, of a CTC model, what it hears where none is."""
    labels = batch.labels
    if labels is None:
        blank = blank_id(model)
        labels = padded_labels([collapse(row, blank) for row in frame_labels(model, batch.inputs)])
    with undisturbed(model):
        return model(**batch.inputs, labels=labels).loss
