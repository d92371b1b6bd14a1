"""The task that a recogniser was made for, as a loss: what importance is measured by."""

from torch import Tensor
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.inference.greedy import blank_id, collapse, frame_labels
from trimbre.models.labels import padded_labels
from trimbre.models.regularisation import without_regularisation


def transcript_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The loss a model is trained by, against the transcripts or, of a CTC model, what it hears where none is."""
    labels = batch.labels
    if labels is None:
        blank = blank_id(model)
        labels = padded_labels([collapse(row, blank) for row in frame_labels(model, batch.inputs)])
    with without_regularisation(model):
        return model(**batch.inputs, labels=labels).loss
