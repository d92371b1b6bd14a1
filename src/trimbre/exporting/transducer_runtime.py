"""An exported transducer on ONNX Runtime, with the interface of a model: what its head decodes with."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from trimbre.exporting.ctc import subsampled
from trimbre.exporting.session import session
from trimbre.models.heads.emissions import Joint, Predict
from trimbre.models.heads.transducer import RNNT, TDT


class ExportedTransducer(nn.Module):
    """Exported graphs with the interface of the transducer that they were exported from and its order of labels.

    Decoding, evaluation and timing need its head, `get_audio_features`, `networks` and output lengths.

    Args:
        described: content of export.json.
    """

    def __init__(self, folder: Path, described: Mapping[str, Any], *, threads: int = 1):
        super().__init__()
        kind = TDT if described["durations"] else RNNT
        self.head = kind(lengths="output_lengths", masks_padding=True)
        self.lengths, self.layers, self.dim = described["lengths"], described["layers"], described["dim"]
        self.sessions = [session(folder / file, threads=threads) for file in described["files"].values()]
        fields = {"durations": described["durations"], "max_symbols_per_step": described["most"]}
        names = {"vocab_size": described["labels"], "blank_token_id": described["blank"]}
        self.config = PreTrainedConfig.from_dict(fields | names)
        columns = torch.tensor(described["columns"])
        self.column_of = columns.argsort()
        """(labels,) column of each label."""
        self.order = torch.cat([self.column_of, torch.arange(len(columns), described["logits"])])

    def get_audio_features(self, **inputs: Tensor) -> SimpleNamespace:
        """States of the encoder, (batch, frames, dim), as `pooler_output`."""
        feed = {
            "audio_signal": inputs["input_features"].float().transpose(1, 2).contiguous().numpy(),
            "length": inputs["attention_mask"].long().sum(-1).numpy(),
        }
        states, _ = self.sessions[0].run(None, feed)
        return SimpleNamespace(pooler_output=torch.from_numpy(states).transpose(1, 2))

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """(batch,) output frames of inputs of `lengths` frames, (batch,)."""
        return subsampled(lengths, self.lengths)

    def networks(self) -> tuple[Predict, Joint]:
        """The prediction network, at the beginning of texts, and the joint network, in graphs apart or in one."""
        text = _Text(self)
        if len(self.sessions) == 3:
            return text.read, lambda states, audio: self._logits(
                2, {"encoder_outputs": _columns(audio), "decoder_outputs": _columns(states)}
            )
        return text.note, lambda states, audio: text.joined(audio)

    def _logits(self, number: int, feed: Mapping[str, Any]) -> Tensor:
        """(batch, 1, logits) of a graph, tokens in the model's order."""
        logits = torch.from_numpy(self.sessions[number].run(["outputs"], feed)[0])
        return logits[:, 0][..., self.order]


class _Text:
    """The texts of a batch so far: what LSTMs held before the last token, and that token."""

    def __init__(self, model: ExportedTransducer):
        self.model = model
        self.token: Tensor | None = None
        self.states: list[np.ndarray] = []
        self.following: list[np.ndarray] = []
        """States after the last token, once they were computed."""
        self.output: np.ndarray = np.zeros(0)

    def note(self, tokens: Tensor) -> Tensor:
        """Take the next token, (batch,); where it is a blank the text stays as it was. Returns nothing of use."""
        if self.token is None:
            self.token = tokens
            shape = (self.model.layers, len(tokens), self.model.dim)
            self.states = [np.zeros(shape, dtype=np.float32) for _ in range(2)]
            self.following = []
        else:
            spoken = tokens != self.model.config.blank_token_id
            if self.following:
                mask = spoken.numpy()[None, :, None]
                self.states = [np.where(mask, new, old) for new, old in zip(self.following, self.states, strict=True)]
            self.token = tokens.where(spoken, self.token)
        return tokens

    def feed(self) -> dict[str, np.ndarray]:
        """Inputs of the prediction network."""
        assert self.token is not None
        columns = self.model.column_of[self.token].unsqueeze(1)
        return {
            "targets": columns.int().numpy(),
            "target_length": np.ones(len(columns), dtype=np.int32),
            "input_states_1": self.states[0],
            "input_states_2": self.states[1],
        }

    def read(self, tokens: Tensor) -> Tensor:
        """The prediction network on the next tokens: (batch,) -> (batch, 1, dim)."""
        begun = self.token is not None
        self.note(tokens)
        if not begun or bool((tokens != self.model.config.blank_token_id).any()):
            output, _, *self.following = self.model.sessions[1].run(None, self.feed())
            self.output = np.asarray(output)
        return torch.from_numpy(self.output).transpose(1, 2)

    def joined(self, audio: Tensor) -> Tensor:
        """Both networks on the last tokens and (batch, 1, dim) of the audio -> (batch, 1, logits)."""
        feed = {"encoder_outputs": _columns(audio), **self.feed()}
        names = ["outputs", "output_states_1", "output_states_2"]
        logits, *self.following = self.model.sessions[1].run(names, feed)
        return torch.from_numpy(logits)[:, 0][..., self.model.order]


def _columns(states: Tensor) -> np.ndarray:
    """(batch, 1, dim) -> (batch, dim, 1)."""
    found: np.ndarray = states.float().transpose(1, 2).contiguous().numpy()
    return found
