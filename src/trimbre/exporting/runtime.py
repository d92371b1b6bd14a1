"""An exported directory on ONNX Runtime, in the form of a model: what listens, evaluates and times takes it as one."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoProcessor, PreTrainedConfig, ProcessorMixin

from trimbre.errors import UserError

DESCRIPTION = "export.json"


def session(path: Path, *, threads: int = 1) -> Any:
    """An ONNX Runtime session of a file on the CPU, with so many threads that do not spin while they wait."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its kernel for a residual sum with a norm takes several times as long as the sum and the norm one after the other.
    apart = ["SkipLayerNormFusion"]
    return onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=apart
    )


class ExportedModel(nn.Module):
    """An exported graph that is called like the model it was made from: same inputs, same order of labels.

    It has what `trimbre.decoding`, `trimbre.transcription`, `trimbre.evaluation` and `trimbre.speed` ask of a model:
    `forward`, `config.pad_token_id` and the arithmetic of lengths.
    """

    order: Tensor | None
    """(labels,) column of each label; None where they are in order."""

    def __init__(self, folder: Path, *, threads: int = 1):
        super().__init__()
        self.described = _described(folder)
        self.file = folder / self.described["file"]
        self.session = session(self.file, threads=threads)
        self.config = PreTrainedConfig.from_dict({"pad_token_id": self.described["blank"]})
        columns = torch.tensor(self.described["columns"])
        in_order = torch.equal(columns, torch.arange(len(columns)))
        self.register_buffer("order", None if in_order else columns.argsort(), persistent=False)

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        """Scores (batch, frames, labels) as `logits`, which after a NeMo graph are logarithms of probabilities."""
        if "audio_signal" in self.described["inputs"]:
            feed = {
                "audio_signal": inputs["input_features"].float().transpose(1, 2).contiguous(),
                "length": inputs["attention_mask"].long().sum(-1),
            }
        else:
            feed = {name: inputs[name] for name in self.described["inputs"]}
            if "attention_mask" in feed:
                feed["attention_mask"] = feed["attention_mask"].long()
        (scores,) = self.session.run(None, {name: value.numpy() for name, value in feed.items()})
        logits = torch.from_numpy(scores)
        return SimpleNamespace(logits=logits if self.order is None else logits[..., self.order])

    def _get_feat_extract_output_lengths(self, lengths: Tensor) -> Tensor:
        """Output frames of inputs of so many frames or samples, by the kernel, stride and padding of each layer."""
        for kernel, stride, padding in self.described["lengths"]:
            lengths = (lengths + 2 * padding - kernel) // stride + 1
        return lengths


class Exported(NamedTuple):
    """An exported model and the processor that feeds it: `trimbre.transcription.listener(*exported)` hears with it."""

    model: ExportedModel
    processor: ProcessorMixin


def load_exported(folder: str | Path, *, threads: int = 1) -> Exported:
    """Load a directory that `trimbre.export` wrote, for ONNX Runtime on the CPU.

    Args:
        threads: how many threads compute one call.

    Raises:
        UserError: the directory is not such a one.
    """
    model = ExportedModel(Path(folder), threads=threads)
    return Exported(model, AutoProcessor.from_pretrained(folder, trust_remote_code=False))


def _described(folder: Path) -> dict[str, Any]:
    try:
        described = json.loads((folder / DESCRIPTION).read_text())
        wanted = {"file", "blank", "columns", "inputs", "lengths"}
        if lacking := wanted - set(described):
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder} holds no model that trimbre export wrote: {error}") from error
    return described
