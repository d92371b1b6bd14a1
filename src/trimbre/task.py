"""The task that a recogniser was made for, as a loss: what importance is measured by."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.decoding import blank_id, collapse, frame_labels
from trimbre.distill import undisturbed


def transcript_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """CTC loss against the transcripts, or against what the model itself hears where there are none."""
    labels = batch.labels
    if labels is None:
        blank = blank_id(model)
        heard = [torch.tensor(collapse(row, blank)) for row in frame_labels(model, batch.inputs)]
        labels = nn.utils.rnn.pad_sequence(heard, batch_first=True, padding_value=-100).long()
    with undisturbed(model):
        return model(**batch.inputs, labels=labels).loss
