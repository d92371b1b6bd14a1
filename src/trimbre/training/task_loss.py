"""The task loss of a recogniser, whose increase the importance scores estimate."""

from torch import Tensor
from transformers import PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.models.families.registry import head_of


def transcript_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The loss that a model is trained with, on the transcripts or, where there are none, its own text."""
    return head_of(model).task_loss(model, batch.inputs, batch.labels)
