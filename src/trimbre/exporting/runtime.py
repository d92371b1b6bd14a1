"""An exported directory on ONNX Runtime, in the form of a model: what listens, evaluates and times takes it as one."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoProcessor, PreTrainedConfig, ProcessorMixin

from trimbre.errors import UserError
from trimbre.exporting.session import session
from trimbre.exporting.whisper_runtime import ExportedWhisper
from trimbre.models.heads.ctc import CTC

DESCRIPTION = "export.json"


class ExportedModel(nn.Module):
    """An exported graph that is called like the CTC model it was made from: same inputs, same order of labels.

    It has what decoding, evaluation and timing ask of a model: its head, `forward`, `config.pad_token_id` and output
    lengths.

    Args:
        described: what stands in export.json.
    """

    head = CTC(lengths="output_lengths")
    order: Tensor | None
    """(labels,) column of each label; None where they are in order."""

    def __init__(self, folder: Path, described: Mapping[str, Any], *, threads: int = 1):
        super().__init__()
        self.inputs, self.lengths = described["inputs"], described["lengths"]
        self.session = session(folder / described["files"]["model"], threads=threads)
        self.config = PreTrainedConfig.from_dict({"pad_token_id": described["blank"]})
        columns = torch.tensor(described["columns"])
        in_order = torch.equal(columns, torch.arange(len(columns)))
        self.register_buffer("order", None if in_order else columns.argsort(), persistent=False)

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        """Scores (batch, frames, labels) as `logits`, which after a NeMo graph are logarithms of probabilities."""
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
        """Output frames of inputs of so many frames or samples, by the kernel, stride and padding of each layer."""
        for kernel, stride, padding in self.lengths:
            lengths = (lengths + 2 * padding - kernel) // stride + 1
        return lengths


FAMILIES = {"ctc": ExportedModel, "whisper": ExportedWhisper}
"""Each takes the directory, what stands in its export.json, and how many threads compute one call."""


class Exported(NamedTuple):
    """An exported model and the processor that feeds it, as `transcriber(*exported)` takes them."""

    model: ExportedModel | ExportedWhisper
    processor: ProcessorMixin


def load_exported(folder: str | Path, *, threads: int = 1) -> Exported:
    """Load a directory that `trimbre.export` wrote, for ONNX Runtime on the CPU.

    Args:
        threads: how many threads compute one call.

    Raises:
        UserError: the directory is not such a one.
    """
    folder = Path(folder)
    try:
        described = json.loads((folder / DESCRIPTION).read_text())
        model: Any = FAMILIES[described["family"]](folder, described, threads=threads)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"{folder} holds no model that trimbre export wrote: {error}") from error
    return Exported(model, AutoProcessor.from_pretrained(folder, trust_remote_code=False))
