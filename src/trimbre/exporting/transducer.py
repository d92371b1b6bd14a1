"""Export of Parakeet transducers as NeMo's: an encoder, a prediction network called for every token, and a joint one.

onnx-asr takes the last two as one graph, sherpa-onnx as two; ONNX Runtime alone gets what onnx-asr does.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.errors import OptionError
from trimbre.exporting.ctc import CHECKED_SECONDS, EXAMPLE, check_features, files_beside, length_layers
from trimbre.exporting.targets import Layout, OnnxGraph, Trial, noise
from trimbre.models.families.registry import head_of
from trimbre.models.inputs import features_of, rate_of

STATES = ("input_states_1", "input_states_2")
RENEWED = ("output_states_1", "output_states_2")
"""What LSTMs hold and put out, (layers, batch, dim) each."""
FILES = {
    "onnx": ("encoder-model", "decoder_joint-model"),
    "onnx-asr": ("encoder-model", "decoder_joint-model"),
    "sherpa-onnx": ("encoder", "decoder", "joiner"),
}
"""Names of the graphs as a runtime knows them, without their ending."""


def layout(to: str, model: PreTrainedModel, processor: ProcessorMixin, **asked: str | None) -> Layout:
    """The layout of a transducer, which is not told what is `asked`, for the runtime `to`.

    Raises:
        UserError: that runtime cannot run it.
    """
    config: Any = model.config
    durations = head_of(model).durations(config)  # type: ignore[attr-defined]
    if to != "onnx":
        check_features(to, processor)
        if durations != tuple(range(len(durations))):
            advice = f"it takes the n-th duration for n frames and the model's are {list(durations)}: export to onnx"
            raise OptionError("to", to, advice)
    blank, labels = config.blank_token_id, config.vocab_size
    columns = (*(label for label in range(labels) if label != blank), blank)
    parts = [_encoder(model, processor, columns)]
    if to == "sherpa-onnx":
        parts += [_decoder(model, columns), _joiner(model, columns)]
    else:
        parts += [_decoder_joint(model, columns)]
    graphs = tuple(OnnxGraph(name=name, **part) for name, part in zip(FILES[to], parts, strict=True))
    described = {
        "family": "transducer",
        "inputs": list(dict.fromkeys(name for graph in graphs for name in graph.sizes)),
        "outputs": list(dict.fromkeys(name for graph in graphs for name in graph.outputs)),
        "kind": kind_of(model),
        "blank": blank,
        "columns": list(columns),
        "labels": labels,
        "durations": list(durations),
        "logits": labels + len(durations),
        "most": config.max_symbols_per_step,
        "layers": config.num_decoder_layers,
        "dim": config.decoder_hidden_size,
        "lengths": length_layers(model),
        "sampling_rate": rate_of(processor),
        "mel_bands": processor.feature_extractor.feature_size,  # type: ignore[attr-defined]
    }
    told = {
        "model_type": described["kind"],
        "subsampling_factor": config.encoder_config.subsampling_factor,
        "max_tokens_per_step": described["most"],
    }
    files = {} if to == "onnx" else files_beside(to, processor, columns, blank, **told)
    return Layout(graphs, described, partial(first_gap, model), files)


def kind_of(model: Any) -> str:
    """The name that onnx-asr has for a model's decoding."""
    durations = head_of(model).durations(model.config)  # type: ignore[attr-defined]
    return "nemo-conformer-tdt" if durations else "nemo-conformer-rnnt"


class Encoder(nn.Module):
    """NeMo's features (batch, mel bands, frames) -> states (batch, dim, frames), zero on padding, and their lengths."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        mask = torch.arange(audio_signal.shape[2]) < length[:, None]
        # Runtimes pad batches with arbitrary values, which the first convolution would read.
        features = audio_signal.transpose(1, 2) * mask[:, :, None]
        states = self.model.get_audio_features(input_features=features, attention_mask=mask).pooler_output
        lengths = self.model._get_subsampling_output_length(length).long()
        valid = torch.arange(states.shape[1]) < lengths[:, None]
        return (states * valid[:, :, None]).transpose(1, 2), lengths


class Prediction(nn.Module):
    """The prediction network for one token: its LSTMs are written out, as products that can be quantised."""

    columns: Tensor

    def __init__(self, model: Any, columns: tuple[int, ...]):
        super().__init__()
        self.decoder = model.decoder
        in_order = columns == tuple(range(len(columns)))
        self.register_buffer("columns", None if in_order else torch.tensor(columns))

    def forward(self, targets: Tensor, target_length: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        token, lstm = targets.long(), self.decoder.lstm
        if self.columns is not None:
            token = self.columns[token]
        hidden, states, cells = self.decoder.embedding(token)[:, 0], [], []
        for layer in range(lstm.num_layers):
            into, back, bias, other = (
                getattr(lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            gates = nn.functional.linear(hidden, into, bias) + nn.functional.linear(h[layer], back, other)
            entry, forget, cell, leave = gates.chunk(4, -1)
            cells.append(forget.sigmoid() * c[layer] + entry.sigmoid() * cell.tanh())
            hidden = leave.sigmoid() * cells[-1].tanh()
            states.append(hidden)
        state = self.decoder.decoder_projector(hidden).unsqueeze(-1)
        return state, target_length.clamp_min(0), torch.stack(states), torch.stack(cells)


class Joiner(nn.Module):
    """(batch, dim, 1) states of encoder and prediction network -> (batch, 1, 1, labels) logits, the blank's last."""

    columns: Tensor

    def __init__(self, model: Any, columns: tuple[int, ...]):
        super().__init__()
        self.joint = model.joint
        order = (*columns, *range(len(columns), model.joint.head.out_features))  # durations stay behind the tokens
        in_order = order == tuple(range(len(order)))
        self.register_buffer("columns", None if in_order else torch.tensor(order))

    def forward(self, encoder_outputs: Tensor, decoder_outputs: Tensor) -> Tensor:
        text, audio = decoder_outputs.transpose(1, 2).unsqueeze(1), encoder_outputs.transpose(1, 2).unsqueeze(2)
        logits: Tensor = self.joint(text, audio)
        return logits if self.columns is None else logits.index_select(-1, self.columns)


class DecoderJoint(nn.Module):
    """Both as one."""

    def __init__(self, model: Any, columns: tuple[int, ...]):
        super().__init__()
        self.prediction, self.joiner = Prediction(model, columns), Joiner(model, columns)

    def forward(
        self, encoder_outputs: Tensor, targets: Tensor, target_length: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, ...]:
        text, *rest = self.prediction(targets, target_length, h, c)
        return self.joiner(encoder_outputs, text), *rest


def _encoder(model: Any, processor: Any, columns: tuple[int, ...]) -> dict[str, Any]:
    """The graph of the encoder, with what sherpa-onnx reads of it."""
    config, rate = model.config, rate_of(processor)

    def feed(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            "audio_signal": inputs["input_features"].float().transpose(1, 2).contiguous(),
            "length": inputs["attention_mask"].long().sum(-1),
        }

    def trials() -> Iterator[Trial]:
        for seconds in CHECKED_SECONDS:
            inputs = features_of(noise(seconds, rate), processor)
            states = model.get_audio_features(**inputs).pooler_output
            lengths: Any = head_of(model).output_lengths(model, inputs)  # there is a mask
            valid = torch.arange(states.shape[1]) < lengths.unsqueeze(1)
            yield Trial(feed(inputs), {"outputs": (states * valid.unsqueeze(-1)).transpose(1, 2)})

    return {
        "sizes": {"audio_signal": {0: "batch", 2: "mel_frames"}, "length": {0: "batch"}},
        "outputs": ("outputs", "encoded_lengths"),
        "wrap": Encoder,
        "example": feed(features_of(noise([samples / rate for samples in EXAMPLE], rate), processor)),
        "trials": trials,
        "metadata": {
            "vocab_size": str(len(columns) - 1),
            "normalize_type": "per_feature",
            "subsampling_factor": str(config.encoder_config.subsampling_factor),
            "pred_rnn_layers": str(config.num_decoder_layers),
            "pred_hidden": str(config.decoder_hidden_size),
            "feat_dim": str(processor.feature_extractor.feature_size),
            "model_type": "EncDecRNNTBPEModel",
            "url": kind_of(model),  # by a "tdt" in it sherpa-onnx tells the one from the other
            "version": "1",
            "comment": "exported by Trimbre",
        },
    }


_SIZES = {"targets": {0: "batch"}, "target_length": {0: "batch"}, **{name: {1: "batch"} for name in STATES}}


def _read(model: Any, columns: tuple[int, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs of the prediction network for three texts, and what transformers' gives for them."""
    config, draw = model.config, torch.Generator().manual_seed(0)
    shape = (config.num_decoder_layers, 3, config.decoder_hidden_size)
    states = [torch.randn(shape, generator=draw) * 0.3 for _ in STATES]
    targets = torch.tensor([[0], [len(columns) // 2], [len(columns) - 1]])
    given = {"targets": targets.int(), "target_length": torch.ones(3, dtype=torch.int32)}
    out, renewed = model.decoder.lstm(model.decoder.embedding(torch.tensor(columns)[targets]), tuple(states))
    text = model.decoder.decoder_projector(out).transpose(1, 2)
    return given | dict(zip(STATES, states, strict=True)), {"text": text} | dict(zip(RENEWED, renewed, strict=True))


def _logits(model: Any, columns: tuple[int, ...], text: Tensor, audio: Tensor) -> Tensor:
    logits = model.joint(text.transpose(1, 2).unsqueeze(1), audio.transpose(1, 2).unsqueeze(2))
    spoken = len(columns)
    return torch.cat([logits[..., list(columns)], logits[..., spoken:]], -1)


@torch.no_grad()
def _decoder(model: Any, columns: tuple[int, ...]) -> dict[str, Any]:
    """The graph of the prediction network."""
    given, expected = _read(model, columns)
    named = {"outputs": expected["text"], **{name: expected[name] for name in RENEWED}}
    return {
        "sizes": _SIZES,
        "outputs": ("outputs", "prednet_lengths", *RENEWED),
        "wrap": lambda copied: Prediction(copied, columns),
        "example": given,
        "trials": lambda: iter([Trial(given, named)]),
    }


@torch.no_grad()
def _joiner(model: Any, columns: tuple[int, ...]) -> dict[str, Any]:
    """The graph of the joint network."""
    draw, dim = torch.Generator().manual_seed(1), model.config.decoder_hidden_size
    audio, text = torch.randn(3, dim, 1, generator=draw), torch.randn(3, dim, 1, generator=draw)
    given = {"encoder_outputs": audio, "decoder_outputs": text}
    return {
        "sizes": {name: {0: "batch"} for name in given},
        "outputs": ("outputs",),
        "wrap": lambda copied: Joiner(copied, columns),
        "example": given,
        "trials": lambda: iter([Trial(given, {"outputs": _logits(model, columns, text, audio)})]),
    }


@torch.no_grad()
def _decoder_joint(model: Any, columns: tuple[int, ...]) -> dict[str, Any]:
    """The graph of the two."""
    given, expected = _read(model, columns)
    audio = torch.randn(3, model.config.decoder_hidden_size, 1, generator=torch.Generator().manual_seed(1))
    logits = _logits(model, columns, expected["text"], audio)
    named = {"outputs": logits, **{name: expected[name] for name in RENEWED}}
    return {
        "sizes": {"encoder_outputs": {0: "batch"}, **_SIZES},
        "outputs": ("outputs", "prednet_lengths", *RENEWED),
        "wrap": lambda copied: DecoderJoint(copied, columns),
        "example": {"encoder_outputs": audio, **given},
        "trials": lambda: iter([Trial({"encoder_outputs": audio, **given}, named)]),
    }


@torch.no_grad()
def first_gap(model: Any, exported: Any, inputs: Mapping[str, Tensor]) -> float | None:
    """How far apart two labels are for the model where its decoding and that of the exported model begin to differ.

    Returns:
        The difference of their scores, relative to the largest score; None for equal texts.
    """
    tokens = model.config.vocab_size
    ours, theirs = (head_of(one).steps(one, inputs) for one in (model, exported))  # type: ignore[attr-defined]
    for mine, other in zip(ours, theirs, strict=False):
        for part in (slice(0, tokens), slice(tokens, None)):
            scores = mine[part]
            if len(scores) and (best := scores.argmax()) != (found := other[part].argmax()):
                return float((scores[best] - scores[found]) / mine.abs().max())
    return None if len(ours) == len(theirs) else math.inf
