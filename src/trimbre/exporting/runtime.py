"""Exported directories on ONNX Runtime, with the interface of a model for transcription, evaluation and timing."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoProcessor, PreTrainedConfig, ProcessorMixin

from trimbre.errors import UserError, reason
from trimbre.exporting.ctc import subsampled
from trimbre.exporting.session import session
from trimbre.exporting.transducer_runtime import ExportedTransducer
from trimbre.exporting.whisper_runtime import ExportedWhisper
from trimbre.models.heads.ctc import CTC

DESCRIPTION = "export.json"


class ExportedModel(nn.Module):
    """An exported graph with the interface of the CTC model that it was exported from: its inputs and order of labels.

    Decoding, evaluation and timing need its head, `forward`, `config.pad_token_id` and output lengths.

    Args:
        described: content of export.json.
    """

    head = CTC(lengths="output_lengths")
    order: Tensor | None
    """(labels,) column of each label; None where columns are in order."""

    def __init__(self, folder: Path, described: Mapping[str, Any], *, threads: int = 1):
        super().__init__()
        self.inputs, self.lengths = described["inputs"], described["lengths"]
        self.session = session(folder / described["files"]["model"], threads=threads)
        self.config = PreTrainedConfig.from_dict({"pad_token_id": described["blank"]})
        columns = torch.tensor(described["columns"])
        in_order = torch.equal(columns, torch.arange(len(columns)))
        self.register_buffer("order", None if in_order else columns.argsort(), persistent=False)

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        """Scores (batch, frames, labels) as `logits`; a NeMo graph gives log-probabilities."""
        if "audio_signal" in self.inputs:
            feed = {
                "audio_signal": inputs["input_features"].float().transpose(1, 2).contiguous(),
                "length": inputs["attention_mask"].long().sum(-1),
            }
        else:
            feed = {name: inputs[name] for name in self.inputs}
            if "attention_mask" in feed:
                feed["attention_mask"] = feed["attention_mask"].long()
        (scores,) = self.session.run(None, {name: value.numpy() for name, value in feed.items()})
        logits = torch.from_numpy(scores)
        return SimpleNamespace(logits=logits if self.order is None else logits[..., self.order])

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """(batch,) output frames of inputs of `lengths` frames or samples, (batch,)."""
        return subsampled(lengths, self.lengths)


FAMILIES = {"ctc": ExportedModel, "transducer": ExportedTransducer, "whisper": ExportedWhisper}
"""Family in export.json -> class, made from the directory, the content of export.json and the threads of a call."""


class Exported(NamedTuple):
    """An exported model and its processor, as `transcriber(*exported)` takes them."""

    model: ExportedModel | ExportedTransducer | ExportedWhisper
    processor: ProcessorMixin


def load_exported(folder: str | Path, *, threads: int = 1) -> Exported:
    """Load a directory that `trimbre.export` wrote, for ONNX Runtime on the CPU.

    Args:
        threads: threads of one call.

    Raises:
        UserError: the directory was not written by `trimbre.export`.
    """
    folder = Path(folder)
    try:
        described = json.loads((folder / DESCRIPTION).read_text())
        model: Any = FAMILIES[described["family"]](folder, described, threads=threads)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"{folder} holds no exported model: {reason(error)}") from error
    model.name_or_path = str(folder)
    return Exported(model, AutoProcessor.from_pretrained(folder, trust_remote_code=False))
