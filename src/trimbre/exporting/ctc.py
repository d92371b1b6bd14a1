"""Export of models with a CTC head: one graph, from features to a score for each label and frame."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.errors import OptionError, UserError
from trimbre.exporting.targets import Layout, OnnxGraph, Trial, noise
from trimbre.models.families.registry import head_of
from trimbre.models.heads.ctc import blank_id
from trimbre.models.inputs import features_of, rate_of

CHECKED_SECONDS = ((0.1,), (1.37,), (0.6, 2.5, 1.9), (4.0, 4.0), (0.2, 11.3))
"""Batches that a graph is compared on, by the lengths of their clips in seconds, with and without padding."""

EXAMPLE = (20_800, 11_200)
"""Samples of the clips that a graph is traced with: whole frames, for the exporter takes a remainder for a rule."""


@dataclass(frozen=True)
class Form:
    """Inputs and output of a graph as one runtime expects them."""

    sizes: Mapping[str, Mapping[int, str]]
    """Inputs in order; for each, the names of its dynamic axes."""
    output: str
    """Name of the output, a score for each label, (batch, frames, labels)."""
    wrap: Callable[[PreTrainedModel], nn.Module]
    """The model -> a module with these inputs and this output."""
    feed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """Inputs of the model's forward -> inputs of the graph."""
    expected: Callable[[Tensor], Tensor]
    """The model's logits -> the expected output."""
    columns: tuple[int, ...]
    """The model's label of each column of the output."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Metadata in the ONNX file."""


def layout(to: str, model: PreTrainedModel, processor: ProcessorMixin, **asked: str | None) -> Layout:
    """The layout of a CTC model, which is not told what is `asked`, for the runtime `to`.

    Raises:
        UserError: that runtime cannot run it.
    """
    form = plain(model, processor) if to == "onnx" else nemo(to, model, processor)
    rate = rate_of(processor)
    graph = OnnxGraph(
        name="model",
        sizes=form.sizes,
        outputs=(form.output,),
        wrap=form.wrap,
        example=form.feed(features_of(noise([samples / rate for samples in EXAMPLE], rate), processor)),
        trials=partial(trials, form, model, processor),
        metadata=form.metadata,
    )
    files = {}
    if to != "onnx":
        told = {"model_type": "nemo-conformer-ctc", "subsampling_factor": int(form.metadata["subsampling_factor"])}
        files = files_beside(to, processor, form.columns, blank_id(model), **told)
    return Layout((graph,), describe(form, model, processor), partial(first_gap, model), files, form.feed)


def trials(form: Form, model: PreTrainedModel, processor: ProcessorMixin) -> Iterator[Trial]:
    """One for each batch of `CHECKED_SECONDS`, compared on valid frames."""
    for seconds in CHECKED_SECONDS:
        inputs = features_of(noise(seconds, rate_of(processor)), processor)
        expected = form.expected(model(**inputs).logits)
        lengths = head_of(model).output_lengths(model, inputs)
        valid = None if lengths is None else torch.arange(expected.shape[1]) < lengths.unsqueeze(1)
        yield Trial(form.feed(inputs), {form.output: expected}, valid)


@torch.no_grad()
def first_gap(model: PreTrainedModel, exported: Any, inputs: Mapping[str, Tensor]) -> float | None:
    """How far apart two labels are for the model in the frames where the labels of the exported model differ, at most.

    Returns:
        The difference of their scores, relative to the largest score; None for equal labels.
    """
    head: Any = head_of(model)
    (scores,) = head.frame_logits(model, inputs)
    (found,) = exported.head.frame_logits(exported, inputs)
    if len(scores) != len(found):
        return math.inf
    ours, theirs = scores.argmax(-1), found.argmax(-1)
    if torch.equal(ours, theirs):
        return None
    gaps = (scores.gather(1, ours[:, None]) - scores.gather(1, theirs[:, None])) / scores.abs().max()
    return float(gaps.max())


class Plain(nn.Module):
    """A model with the inputs of its own forward, but an integer mask, which all runtimes support."""

    def __init__(self, model: PreTrainedModel, main: str):
        super().__init__()
        self.model = model
        self.main = main

    def forward(self, audio: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        mask = attention_mask if attention_mask is None or self.main == "input_values" else attention_mask.bool()
        return self.model(**{self.main: audio}, attention_mask=mask).logits


def plain(model: PreTrainedModel, processor: ProcessorMixin) -> Form:
    """The form for ONNX Runtime alone: the processor's output in, logits out."""
    main = model.main_input_name
    names = _input_names(processor)
    inner = {"input_features": "mel_frames", "input_values": "samples"}[main]
    return Form(
        sizes={name: {0: "batch", 1: inner} for name in names},
        output="logits",
        wrap=lambda copied: Plain(copied, main),
        feed=lambda inputs: {
            name: inputs[name].long() if name == "attention_mask" else inputs[name].float() for name in names
        },
        expected=lambda logits: logits,
        columns=tuple(range(model.config.vocab_size)),
    )


def _input_names(processor: ProcessorMixin) -> list[str]:
    """Names of the feature extractor's output, the main input first; some extractors give no mask."""
    given = features_of(noise((1.0,), rate_of(processor)), processor)
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
        # Runtimes pad batches with arbitrary values, which the first convolution would read.
        features = audio_signal.transpose(1, 2) * mask[:, :, None]
        logits = self.model(input_features=features, attention_mask=mask).logits
        if self.columns is not None:
            logits = logits.index_select(2, self.columns)
        return logits.log_softmax(-1)


def nemo(to: str, model: PreTrainedModel, processor: ProcessorMixin) -> Form:
    """The form of NeMo's CTC models, which sherpa-onnx and onnx-asr run."""
    check_features(to, processor)
    blank, labels = blank_id(model), model.config.vocab_size
    columns = (*(label for label in range(labels) if label != blank), blank)
    return Form(
        sizes={"audio_signal": {0: "batch", 2: "mel_frames"}, "length": {0: "batch"}},
        output="logprobs",
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
    """Raise OptionError where the runtime's own features, computed as by NeMo, differ from the model's."""
    extractor = processor.feature_extractor  # type: ignore[attr-defined]
    theirs = {"sampling_rate": 16_000, "hop_length": 160, "n_fft": 512, "win_length": 400, "preemphasis": 0.97}
    for name, value in theirs.items():
        if (own := getattr(extractor, name)) != value:
            raise OptionError("to", to, f"its features have {name} {value} and the model's {own}: export to onnx")
    if to == "onnx-asr" and extractor.feature_size not in (80, 128):
        raise OptionError(
            "to",
            to,
            f"it computes 80 or 128 mel bands and the model takes {extractor.feature_size}: "
            "export to onnx or sherpa-onnx",
        )


def tokens(processor: ProcessorMixin, columns: tuple[int, ...], blank: int) -> list[str]:
    """The token of every column, with the name by which both runtimes know the blank.

    Raises:
        UserError: a token contains white space, which their files of tokens cannot represent.
    """
    known = processor.tokenizer.convert_ids_to_tokens(list(columns))  # type: ignore[attr-defined]
    named = [token if token is not None else f"<unused{label}>" for label, token in zip(columns, known, strict=True)]
    for token in named:
        if not token or token.split() != [token]:
            raise UserError(f"the token {token!r} cannot be written to a file of tokens: export to onnx")
    return ["<blk>" if label == blank else token for label, token in zip(columns, named, strict=True)]


def files_beside(
    to: str, processor: ProcessorMixin, columns: tuple[int, ...], blank: int, **config: Any
) -> dict[str, str]:
    """The files that sherpa-onnx or onnx-asr reads beside the graphs, name -> text.

    Args:
        config: what onnx-asr is told of the model.
    """
    lines = "".join(f"{token} {column}\n" for column, token in enumerate(tokens(processor, columns, blank)))
    if to == "sherpa-onnx":
        return {"tokens.txt": lines}
    config["features_size"] = processor.feature_extractor.feature_size  # type: ignore[attr-defined]
    return {"vocab.txt": lines, "config.json": json.dumps(config, indent=2) + "\n"}


def describe(form: Form, model: PreTrainedModel, processor: ProcessorMixin) -> dict[str, Any]:
    """Everything needed to run the graph, as plain data; `runtime.ExportedModel` reads it."""
    extractor = processor.feature_extractor  # type: ignore[attr-defined]
    return {
        "family": "ctc",
        "inputs": list(form.sizes),
        "outputs": [form.output],
        "blank": blank_id(model),
        "columns": list(form.columns),
        "labels": len(form.columns),
        "lengths": length_layers(model),
        "sampling_rate": rate_of(processor),
        "mel_bands": extractor.feature_size if model.main_input_name == "input_features" else None,
    }


def length_layers(model: PreTrainedModel) -> list[tuple[int, int, int]]:
    """Kernel, stride and padding of every convolution that subsamples, in order.

    Raises:
        UserError: the model's own output lengths are not those of such convolutions.
    """
    try:
        layers = _stated_layers(model)
    except AttributeError:
        layers = []
    for length in (4_000, 16_001, 35_555):  # samples or feature frames
        stated = subsampled(torch.tensor([length]), layers)
        own = head_of(model).output_lengths(model, {"attention_mask": torch.ones(1, length, dtype=torch.long)})
        if own is None or not torch.equal(stated, own):
            raise UserError(f"a {type(model).__name__} cannot be exported: its config does not say how it subsamples")
    return layers


def subsampled(lengths: Tensor, layers: Sequence[Sequence[int]]) -> Tensor:
    """(batch,) output frames of inputs of `lengths` samples or feature frames, (batch,), by their `length_layers`."""
    for kernel, stride, padding in layers:
        lengths = (lengths + 2 * padding - kernel) // stride + 1
    return lengths


def _stated_layers(model: PreTrainedModel) -> list[tuple[int, int, int]]:
    """The same as the config states it."""
    config = model.config
    if model.main_input_name == "input_features":
        encoder = config.encoder_config
        kernel, stride = encoder.subsampling_conv_kernel_size, encoder.subsampling_conv_stride
        return [(kernel, stride, (kernel - 1) // 2)] * round(math.log(encoder.subsampling_factor, 2))
    layers = [(kernel, stride, 0) for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True)]
    if getattr(config, "add_adapter", False):
        layers += [(1, config.adapter_stride, 0)] * config.num_adapter_layers
    return layers
