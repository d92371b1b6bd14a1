"""What each runtime expects: the names and shapes of a graph's inputs and outputs, and the files beside it."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.decoding import blank_id, features_of
from trimbre.errors import UserError


@dataclass(frozen=True)
class Layout:
    """How one runtime feeds a graph and what it reads from it."""

    name: str
    """One of `options.RUNTIMES`."""
    sizes: Mapping[str, Mapping[int, str]]
    """Inputs in order, and the axes of each that have any size, by name."""
    outputs: tuple[str, ...]
    """Outputs in order; the first holds a score per label, (batch, frames, labels)."""
    wrap: Callable[[PreTrainedModel], nn.Module]
    """The model as a module with these inputs and outputs."""
    feed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """What the model's own forward takes -> what the graph takes."""
    expected: Callable[[Tensor], Tensor]
    """The model's logits -> what the first output should be."""
    columns: tuple[int, ...]
    """The model's label that each column of the first output stands for."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What is written into the ONNX file itself."""


def layout_for(to: str, model: PreTrainedModel, processor: ProcessorMixin) -> Layout:
    """How the runtime `to` wants this model.

    Raises:
        UserError: that runtime cannot run it.
    """
    if model.config.is_encoder_decoder:
        raise UserError(
            f"a {type(model).__name__} is an encoder and a decoder that is called for every token, and only models "
            "with a CTC head are exported yet: give such a one"
        )
    return plain(model, processor) if to == "onnx" else nemo(to, model, processor)


class Plain(nn.Module):
    """A model as transformers feeds it, except that the mask is of integers, as all runtimes have them."""

    def __init__(self, model: PreTrainedModel, main: str):
        super().__init__()
        self.model = model
        self.main = main

    def forward(self, heard: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        mask = attention_mask if attention_mask is None or self.main == "input_values" else attention_mask.bool()
        return self.model(**{self.main: heard}, attention_mask=mask).logits


def plain(model: PreTrainedModel, processor: ProcessorMixin) -> Layout:
    """ONNX Runtime on its own: what the processor gives, and logits."""
    main = model.main_input_name
    names = _input_names(processor)
    inner = {"input_features": "mel_frames", "input_values": "samples"}[main]
    return Layout(
        name="onnx",
        sizes={name: {0: "batch", 1: inner} for name in names},
        outputs=("logits",),
        wrap=lambda copied: Plain(copied, main),
        feed=lambda inputs: {
            name: inputs[name].long() if name == "attention_mask" else inputs[name].float() for name in names
        },
        expected=lambda logits: logits,
        columns=tuple(range(model.config.vocab_size)),
    )


def _input_names(processor: ProcessorMixin) -> list[str]:
    """What the feature extractor gives, the main input first; some give no mask."""
    given = features_of([torch.zeros(16_000).numpy()], processor)
    extractor = processor.feature_extractor  # type: ignore[attr-defined]
    return [name for name in extractor.model_input_names if name in given]


class Nemo(nn.Module):
    """A Parakeet with the inputs, outputs and label order of NeMo's CTC models, whose blank is the last label."""

    columns: Tensor

    def __init__(self, model: PreTrainedModel, columns: tuple[int, ...]):
        super().__init__()
        self.model = model
        in_order = columns == tuple(range(len(columns)))
        self.register_buffer("columns", None if in_order else torch.tensor(columns))

    def forward(self, audio_signal: Tensor, length: Tensor) -> Tensor:
        mask = torch.arange(audio_signal.shape[2]) < length[:, None]
        # Runtimes pad batches with what they like, and the first convolution would see it.
        features = audio_signal.transpose(1, 2) * mask[:, :, None]
        logits = self.model(input_features=features, attention_mask=mask).logits
        if self.columns is not None:
            logits = logits.index_select(2, self.columns)
        return logits.log_softmax(-1)


def nemo(to: str, model: PreTrainedModel, processor: ProcessorMixin) -> Layout:
    """What sherpa-onnx and onnx-asr call a NeMo CTC model."""
    if model.config.model_type != "parakeet_ctc":
        raise UserError(f"--to {to} takes Parakeet models and this is a {type(model).__name__}: give --to onnx")
    check_features(to, processor)
    blank, labels = blank_id(model), model.config.vocab_size
    columns = (*(label for label in range(labels) if label != blank), blank)
    return Layout(
        name=to,
        sizes={"audio_signal": {0: "batch", 2: "mel_frames"}, "length": {0: "batch"}},
        outputs=("logprobs",),
        wrap=lambda copied: Nemo(copied, columns),
        feed=lambda inputs: {
            "audio_signal": inputs["input_features"].float().transpose(1, 2).contiguous(),
            "length": inputs["attention_mask"].long().sum(-1),
        },
        expected=lambda logits: logits[..., list(columns)].log_softmax(-1),
        columns=columns,
        metadata={
            "vocab_size": str(labels - 1),
            "normalize_type": "per_feature",
            "subsampling_factor": str(model.config.encoder_config.subsampling_factor),
            "model_type": "EncDecCTCModelBPE",
            "version": "1",
            "comment": "exported by Trimbre",
        },
    )


def check_features(to: str, processor: ProcessorMixin) -> None:
    """Raise UserError where the runtime's own features, which it computes as NeMo does, are not the model's."""
    extractor = processor.feature_extractor  # type: ignore[attr-defined]
    theirs = {"sampling_rate": 16_000, "hop_length": 160, "n_fft": 512, "win_length": 400, "preemphasis": 0.97}
    for name, value in theirs.items():
        if (own := getattr(extractor, name)) != value:
            raise UserError(f"--to {to}: it hears with {name} {value} and the model with {own}: give --to onnx")
    if to == "onnx-asr" and extractor.feature_size not in (80, 128):
        raise UserError(
            f"--to onnx-asr: it computes 80 or 128 mel bands and the model hears {extractor.feature_size}: "
            "give --to onnx or --to sherpa-onnx"
        )


def tokens(processor: ProcessorMixin, columns: tuple[int, ...], blank: int) -> list[str]:
    """The token of every column, with the name that both runtimes know the blank by.

    Raises:
        UserError: one holds a space or the end of a line, which their files of tokens cannot.
    """
    known = processor.tokenizer.convert_ids_to_tokens(list(columns))  # type: ignore[attr-defined]
    named = [token if token is not None else f"<unused{label}>" for label, token in zip(columns, known, strict=True)]
    for token in named:
        if not token or token.split() != [token]:
            raise UserError(f"the token {token!r} cannot be written to a file of tokens: give --to onnx")
    return ["<blk>" if label == blank else token for label, token in zip(columns, named, strict=True)]


def files_beside(layout: Layout, processor: ProcessorMixin, blank: int) -> dict[str, str]:
    """The files, name to text, that a runtime wants beside the graph."""
    if layout.name == "onnx":
        return {}
    lines = "".join(f"{token} {column}\n" for column, token in enumerate(tokens(processor, layout.columns, blank)))
    if layout.name == "sherpa-onnx":
        return {"tokens.txt": lines}
    config = {
        "model_type": "nemo-conformer-ctc",
        "features_size": processor.feature_extractor.feature_size,  # type: ignore[attr-defined]
        "subsampling_factor": int(layout.metadata["subsampling_factor"]),
    }
    return {"vocab.txt": lines, "config.json": json.dumps(config, indent=2) + "\n"}


def describe(layout: Layout, model: PreTrainedModel, processor: ProcessorMixin) -> dict[str, Any]:
    """What one must know to run the graph, as plain data; `exporting.runtime` runs it by this."""
    extractor = processor.feature_extractor  # type: ignore[attr-defined]
    return {
        "inputs": list(layout.sizes),
        "outputs": list(layout.outputs),
        "blank": blank_id(model),
        "columns": list(layout.columns),
        "lengths": length_layers(model),
        "sampling_rate": extractor.sampling_rate,
        "mel_bands": extractor.feature_size if model.main_input_name == "input_features" else None,
    }


def length_layers(model: PreTrainedModel) -> list[tuple[int, int, int]]:
    """Kernel, stride and padding of every layer that shortens its input, in order."""
    config = model.config
    if model.main_input_name == "input_features":
        encoder = config.encoder_config
        kernel, stride = encoder.subsampling_conv_kernel_size, encoder.subsampling_conv_stride
        return [(kernel, stride, (kernel - 1) // 2)] * round(math.log(encoder.subsampling_factor, 2))
    layers = [(kernel, stride, 0) for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True)]
    return layers + [(1, config.adapter_stride, 0)] * (config.num_adapter_layers if config.add_adapter else 0)
