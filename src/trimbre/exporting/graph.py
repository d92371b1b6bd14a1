"""From a model of transformers to one ONNX graph, compared with the model itself before anyone sees it."""

import copy
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.decoding import SAMPLE_RATE, features_of, output_lengths
from trimbre.errors import UserError
from trimbre.exporting.layouts import Layout
from trimbre.exporting.quicker import quicken
from trimbre.modeling_trimbre import BiasOnly, Skipped

EQUAL = 1e-4
"""How far, relative to its norm, the graph's output may be from the model's on any batch, in float32."""
OPSET = 18
SINGLE_FILE = 1_800_000_000  # bytes; a protobuf file ends at 2 GiB, so more weights stand in a file beside it
NOISY = ("torch.onnx", "torch.__trace", "onnxscript", "onnx_ir")
CHECKED_SECONDS = ((0.1,), (1.37,), (0.6, 2.5, 1.9), (4.0, 4.0), (0.2, 11.3))
"""Batches that a graph is compared on, by the length of their clips in seconds: alone, padded and not."""


def write_graph(model: PreTrainedModel, processor: ProcessorMixin, layout: Layout, path: Path) -> float:
    """Export `model` to one ONNX file at `path` and compare the two.

    Returns:
        The largest relative distance of the graph's output from the model's, over `CHECKED_SECONDS`.

    Raises:
        UserError: it is above `EQUAL`, or the model cannot be exported.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    example = layout.feed(features_of(_noise((1.3, 0.7)), processor))
    names = list(example)
    # One size that both inputs share bears one name, so that the exporter knows it for the same.
    dynamic = tuple({axis: torch.export.Dim(size) for axis, size in layout.sizes[name].items()} for name in names)
    wrapped = layout.wrap(exportable(model)).eval()
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                wrapped,
                tuple(example.values()),
                dynamo=True,
                dynamic_shapes=dynamic,
                input_names=names,
                output_names=list(layout.outputs),
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise UserError(f"{type(model).__name__} cannot be exported to ONNX: {error}") from error
        assert program is not None
        ClearMetadataAndDocStringPass()(program.model)  # traces into source files, and their places on this machine
        program.model.metadata_props.update(layout.metadata)
        size = sum(parameter.nbytes for parameter in model.parameters())
        program.save(path, external_data=size > SINGLE_FILE)
    return check_graph(model, processor, layout, path)


def check_graph(model: PreTrainedModel, processor: ProcessorMixin, layout: Layout, path: Path) -> float:
    """Compare a graph with the model at several lengths, batch sizes and paddings, on valid frames.

    Returns:
        The largest distance over norm.

    Raises:
        UserError: it is above `EQUAL`.
    """
    distance = max(distances(model, processor, layout, path))
    if not distance <= EQUAL:
        raise UserError(
            f"the exported graph differs from the model by {distance:.1e} of its output, and only {EQUAL:.0e} is "
            "rounding: nothing was written; please report this with your versions of torch and onnxruntime"
        )
    return distance


def distances(model: PreTrainedModel, processor: ProcessorMixin, layout: Layout, path: Path) -> Iterator[float]:
    """The relative distance of a graph's output from the model's, for each batch of `CHECKED_SECONDS`."""
    from trimbre.exporting.runtime import session

    running = session(path, threads=torch.get_num_threads())
    model.eval()
    for seconds in CHECKED_SECONDS:
        inputs = features_of(_noise(seconds), processor)
        feed = {name: value.numpy() for name, value in layout.feed(inputs).items()}
        found = torch.from_numpy(running.run([layout.outputs[0]], feed)[0])
        with torch.no_grad():
            expected = layout.expected(model(**inputs).logits)
        lengths = output_lengths(model, inputs)
        if found.shape != expected.shape:
            yield math.inf
            continue
        if lengths is not None:
            valid = torch.arange(expected.shape[1]) < lengths.unsqueeze(1)
            expected, found = expected[valid], found[valid]
        yield float((found - expected).norm() / expected.norm())


def exportable(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of `model` that computes the same and can be exported, with no state and nothing to skip.

    Attention is the eager one, since the exporter cannot follow SDPA's views. 1x1 convolutions are matrix products,
    which ONNX Runtime can quantise; it has no fast int8 kernel for a convolution over one frame.
    """
    copied: Any = copy.deepcopy(model).float().eval()
    copied.set_attn_implementation("eager")
    for path, module in list(copied.named_modules()):
        replacement = _replacement(module)
        if replacement is not None:
            copied.set_submodule(path, replacement)
    quicken(copied)
    return copied


def _replacement(module: nn.Module) -> nn.Module | None:
    kind = type(module).__name__
    if kind == "Wav2Vec2ConformerRelPositionalEmbedding":
        return RelativePositions(module.d_model)  # type: ignore[arg-type]
    if kind == "Wav2Vec2ConformerRotaryPositionalEmbedding":
        return RotaryPositions(module.inv_freq)  # type: ignore[arg-type]
    if isinstance(module, Skipped) and not isinstance(module, BiasOnly):
        return Nothing(module.outputs)
    if isinstance(module, nn.Conv1d) and module.kernel_size == (1,) and module.groups == 1 and module.stride == (1,):
        # transformers' CTC head of Parakeet transposes around its convolution itself
        return Pointwise(module, channels_last=kind == "ParakeetEncoderCTCHead")
    return None


class Pointwise(nn.Module):
    """A 1x1 convolution over (batch, channels, time) as a matrix product."""

    def __init__(self, convolution: nn.Conv1d, *, channels_last: bool = False):
        super().__init__()
        self.weight = nn.Parameter(convolution.weight.detach()[:, :, 0].clone())
        self.bias = convolution.bias
        self.channels_last = channels_last

    def forward(self, hidden: Tensor) -> Tensor:
        if self.channels_last:
            return nn.functional.linear(hidden, self.weight, self.bias)
        return nn.functional.linear(hidden.transpose(1, 2), self.weight, self.bias).transpose(1, 2)


class Nothing(nn.Module):
    """A skipped branch whose zero is a constant, so that the exporter sees that adding it changes nothing."""

    zero: Tensor

    def __init__(self, outputs: int):
        super().__init__()
        self.outputs = outputs
        self.register_buffer("zero", torch.zeros(()))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.zero if self.outputs == 1 else (self.zero,) + (None,) * (self.outputs - 1)


class RelativePositions(nn.Module):
    """Sinusoids of the relative positions time-1 .. -(time-1), (1, 2 time - 1, dim), computed for the input at hand.

    transformers keeps them in a table that grows with the longest input so far, which no graph can.
    """

    rates: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("rates", torch.exp(torch.arange(0, dim, 2).float() * -(math.log(10000.0) / dim)))

    def forward(self, hidden: Tensor) -> Tensor:
        frames = hidden.shape[1]
        angles = torch.arange(frames - 1, -frames, -1).float()[:, None] * self.rates
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[None]


class RotaryPositions(nn.Module):
    """Cosines and sines of the positions 0 .. time-1, (2, time, 1, 1, head size), without transformers' cache."""

    rates: Tensor

    def __init__(self, rates: Tensor):
        super().__init__()
        self.register_buffer("rates", rates.detach().clone())

    def forward(self, hidden: Tensor) -> Tensor:
        angles = torch.arange(hidden.shape[1]).float()[:, None] * self.rates
        angles = torch.cat((angles, angles), dim=-1)
        return torch.stack([angles.cos()[:, None, None, :], angles.sin()[:, None, None, :]])


def _noise(seconds: Sequence[float]) -> list[np.ndarray]:
    """Clips of noise that swells, (samples,) each."""
    draw = np.random.default_rng(0)
    sizes = [int(length * SAMPLE_RATE) for length in seconds]
    return [(draw.standard_normal(size) * np.linspace(0.02, 0.2, size)).astype(np.float32) for size in sizes]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own insides to itself."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
