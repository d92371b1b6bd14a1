"""Connectionist temporal classification (Graves et al. 2006): a label, or blank, for every output frame."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from trimbre.models.device import device_of
from trimbre.models.heads.base import CHUNK_SECONDS, OVERLAP_SECONDS, Head, TextDecoder, Texts, Transcriber
from trimbre.models.inputs import features_of, rate_of
from trimbre.models.labels import letters_of, padded_labels


@dataclass(frozen=True)
class CTC(Head):
    """Scores of labels for every output frame of an encoder."""

    name: ClassVar[str] = "ctc"
    auto_class: ClassVar[str] = "AutoModelForCTC"
    positions: ClassVar[Literal["frames", "tokens"]] = "frames"
    # A short recovery goes furthest by hidden states: they say what every layer should do at every frame, where the
    # posteriors are the same blank nearly everywhere.
    layer_weight: ClassVar[float] = 100.0
    reads_text: ClassVar[bool] = False
    takes_graph: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    def misfit(self, model: Any, processor: Any) -> str | None:
        """Whether the blank is the tokenizer's too, and the tokenizer's letters are labels of the model."""
        tokenizer = processor.tokenizer
        labels, blank, pad = model.config.vocab_size, model.config.pad_token_id, tokenizer.pad_token_id
        if not isinstance(blank, int) or not 0 <= blank < labels:
            return f"the model's blank (pad_token_id in config.json) is {blank} and none of its {labels} labels"
        letters = letters_of(tokenizer)
        spelled = {number: token for token, number in letters.items()}
        if pad is None and blank in spelled:
            return f"its tokenizer has no pad token, and spells the model's blank {blank} as {spelled[blank]!r}"
        if pad is not None and pad != blank:
            return f"its blank is {pad} (the pad token of its tokenizer) and the model's is {blank}"
        if beyond := next((token for token, number in letters.items() if number >= labels), None):
            return f"it spells {beyond!r} as {letters[beyond]} and the model has {labels} labels"
        if tokenizer.unk_token_id is not None and (tokenizer.unk_token_id == blank or tokenizer.unk_token_id >= labels):
            return f"its unknown token is {tokenizer.unk_token_id}, which is no label of the model's for letters"
        known = {number for number in tokenizer.get_vocab().values() if number < labels} | {blank}
        unspelled = labels - len(known)
        # Heads are padded with labels that are never said, at their end and to a round number.
        padded = known == set(range(len(known))) | {blank} and (unspelled <= 4 or labels % 8 == 0)
        if unspelled > labels // 2 or (unspelled and not padded):
            return f"its tokenizer spells {len(known)} of the model's {labels} labels"
        return None

    def hidden_states(
        self, output: Any, valid: Tensor, lengths: Tensor | None
    ) -> list[tuple[tuple[Tensor, ...], Tensor]]:
        # Those of other rates, before the frames are as far apart as in the output, are not compared.
        return [(tuple(state for state in output.hidden_states if state.shape[1] == valid.shape[1]), valid)]

    def task_loss(self, model: Any, inputs: Mapping[str, Tensor], labels: Tensor | None) -> Tensor:
        if labels is None:
            blank = blank_id(model)
            labels = padded_labels([collapse(row, blank) for row in self.frame_labels(model, inputs)])
        return super().task_loss(model, inputs, labels)

    def add_texts(
        self,
        teacher: Any,
        processor: Any,
        batch: Texts,
        *,
        languages: Sequence[str | None] = (),
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> Texts:
        return batch

    def example_inputs(self, model: Any, inputs: Mapping[str, Tensor], tokens: int) -> dict[str, Tensor]:
        return dict(inputs)

    # Not inference_mode: models that cache position embeddings (rotary Wav2Vec2-Conformer) keep an inference
    # tensor then, and the next training step cannot differentiate through it.
    @torch.no_grad()
    def frame_logits(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Run the model on a padded batch.

        Args:
            model: in the mode that the caller wants (eval, to compare figures).
            inputs: what its forward takes, on any device; labels are left out.

        Returns:
            (frames, labels) of each utterance, its valid output frames alone, on the model's device.
        """
        device = device_of(model)
        moved = {name: value.to(device) for name, value in inputs.items() if name != "labels"}
        logits = model(**moved).logits
        lengths = self.output_lengths(model, moved)
        if lengths is None:
            return list(logits)
        return [row[:length] for row, length in zip(logits, lengths.tolist(), strict=True)]

    def frame_labels(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> list[list[int]]:
        """The most likely label of every valid frame of each utterance; takes what `frame_logits` takes."""
        return [logits.argmax(-1).tolist() for logits in self.frame_logits(model, inputs)]

    def frame_scores(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> list[np.ndarray]:
        """Log-probabilities, (frames, labels), of each utterance; takes what `frame_logits` takes."""
        return [logits.float().log_softmax(-1).cpu().numpy() for logits in self.frame_logits(model, inputs)]

    def greedy(
        self,
        model: Any,
        inputs: Mapping[str, Tensor],
        processor: Any,
        *,
        languages: Sequence[str | None] = (),
        task: str | None = None,
    ) -> list[str]:
        blank = blank_id(model)
        return [spell(labels, processor=processor, blank=blank) for labels in self.frame_labels(model, inputs)]

    def by_graph(self, model: Any, inputs: Mapping[str, Tensor], graph: TextDecoder) -> list[str]:
        return [graph.text(scores) for scores in self.frame_scores(model, inputs)]

    def transcriber(
        self,
        model: Any,
        processor: Any,
        graph: TextDecoder | None = None,
        *,
        chunk_seconds: float = CHUNK_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
        language: str | None = None,
        task: str | None = None,
    ) -> Transcriber:
        """Long-form decoding in overlapping chunks; a graph reads the scores of all of their frames at once."""
        stride, blank = self.samples_per_frame(model, processor), blank_id(model)
        rate = rate_of(processor)
        chunk, context = (int(seconds * rate) // stride for seconds in (chunk_seconds, overlap_seconds / 2))

        def frames_of(audio: np.ndarray) -> np.ndarray:
            inputs = features_of([audio], processor)
            if graph is None:
                return np.array(self.frame_labels(model, inputs)[0])
            return self.frame_scores(model, inputs)[0]

        def recognise(audio: np.ndarray) -> str:
            frames = frames_in_chunks(audio, frames_of, stride=stride, chunk=chunk, context=context)
            return spell(frames.tolist(), processor=processor, blank=blank) if graph is None else graph.text(frames)

        return Transcriber(rate, chunk * stride, recognise)

    def with_text_length(self, model: Any, tokens: int) -> Any:
        return model


def blank_id(model: Any) -> int:
    """The label of the blank: transformers' CTC models use the padding token."""
    return int(model.config.pad_token_id)


def collapse(labels: Sequence[int], blank: int) -> list[int]:
    """Merge repeated labels, then drop blanks: a blank keeps two equal letters apart."""
    return [label for label, _ in groupby(labels) if label != blank]


def spell(labels: Sequence[int], *, processor: Any, blank: int) -> str:
    """Turn one utterance's frame labels into text, as the processor's own CTC decoding spells it."""
    # group_tokens=False: the tokenizer must not merge again the repeats that a blank has kept apart.
    return str(processor.tokenizer.decode(collapse(labels, blank), group_tokens=False))


def frames_in_chunks(
    audio: np.ndarray, frames_of: Callable[[np.ndarray], np.ndarray], *, stride: int, chunk: int, context: int
) -> np.ndarray:
    """The output frames of a recording of any length, computed one chunk at a time.

    Where two chunks meet, each gives its frames up to the middle of their overlap, and what lies beyond is
    only context. Merging repeats over all frames then neither cuts nor doubles a word. Feature extractors
    that normalise per utterance (Parakeet's) do so per chunk here.

    Args:
        audio: (samples,) mono at the model's rate. At most one chunk long, it is taken whole.
        frames_of: what is made of a chunk, (frames, ...): labels, or scores of labels.
        stride: samples per output frame (`CTC.samples_per_frame`).
        chunk: output frames that are made at once.
        context: output frames on each side of a chunk that only its neighbour gives; under half the chunk.

    Returns:
        (frames, ...).
    """
    if len(audio) <= chunk * stride:
        return frames_of(audio)
    # The last chunk is moved back to be as long as the others: a short one would have little context.
    last = -(-len(audio) // stride) - chunk
    starts = [*range(0, last, max(chunk - 2 * context, 1)), last]
    parts = []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        seen = frames_of(audio[start * stride : (start + chunk) * stride])
        begin = context if start else 0
        parts.append(seen[begin : None if following is None else following + context - start])
    return np.concatenate(parts)
