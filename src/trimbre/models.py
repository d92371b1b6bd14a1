"""Loading a recogniser, dense or pruned, from a directory or the hub."""

from typing import NamedTuple

from transformers import AutoModelForCTC, AutoProcessor, PreTrainedModel, ProcessorMixin


class Recogniser(NamedTuple):
    """A model and the processor that feeds it and reads its output."""

    model: PreTrainedModel
    processor: ProcessorMixin


def load(path: str) -> Recogniser:
    """Load a recogniser in eval mode, float32."""
    model = AutoModelForCTC.from_pretrained(path).float().eval()
    return Recogniser(model, AutoProcessor.from_pretrained(path))
