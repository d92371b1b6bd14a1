"""Transducers (Graves 2012): a prediction network reads the text so far, a joint one says what follows at a frame."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers.models.parakeet.generation_parakeet import ParakeetRNNTDecoderCache
from transformers.utils import ModelOutput

from trimbre.errors import UserError
from trimbre.models.device import device_of
from trimbre.models.heads.base import CHUNK_SECONDS, OVERLAP_SECONDS, Compared, Head, TextDecoder, Texts, Transcriber
from trimbre.models.heads.ctc import frames_in_chunks
from trimbre.models.heads.emissions import Emission, Joint, Predict, greedy_emissions, spell
from trimbre.models.heads.lattice import Arcs, arcs_of
from trimbre.models.inputs import features_of, rate_of
from trimbre.models.labels import letters_of, padded_labels


@dataclass
class TransducerOutput(ModelOutput):
    """What a forward comes to before the joint network, whose logits for all frames and tokens would fill memory."""

    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    audio: Any = None
    """(batch, frames, dim) states of the encoder, as the joint network reads them."""
    text: Any = None
    """(batch, tokens + 1, dim) states of the prediction network, the first before any token."""
    labels: Any = None
    """(batch, tokens) that the prediction network has read."""
    frames: Any = None
    """(batch,) valid frames."""
    tokens: Any = None
    """(batch,) tokens of the texts."""
    model: Any = None
    """The model, whose joint network goes on from there."""


@dataclass(frozen=True)
class Transducer(Head):
    """Scores of the next token, or a blank, for every output frame and text so far."""

    written: int | None = None
    """Tokens that decoding writes whatever the audio, so that models are timed on texts of equal length."""

    name: ClassVar[str] = "transducer"
    positions: ClassVar[Literal["frames", "tokens"]] = "frames"
    # As for CTC: hidden states say what every layer should do at every frame, where most of an alignment is blank.
    layer_weight: ClassVar[float] = 100.0
    reads_text: ClassVar[bool] = True
    takes_graph: ClassVar[bool] = False
    entry: ClassVar[str] = "encoder"
    trains: ClassVar[bool] = False

    @abstractmethod
    def durations(self, config: Any) -> tuple[int, ...]:
        """Frames that a token or a blank may last, in the order of their logits; none where none are predicted."""

    @abstractmethod
    def mean(self, losses: Tensor, tokens: Tensor) -> Tensor:
        """The loss of a batch from those of its texts, (batch,), of so many tokens each."""

    def misfit(self, model: Any, processor: Any) -> str | None:
        """Whether the blank is a label that the tokenizer does not spell, and its letters are labels of the model."""
        labels, blank, tokenizer = model.config.vocab_size, model.config.blank_token_id, processor.tokenizer
        if not 0 <= blank < labels:
            return f"the model's blank (blank_token_id in config.json) is {blank} and none of its {labels} labels"
        letters = letters_of(tokenizer)
        if spelled := next((token for token, number in letters.items() if number == blank), None):
            return f"its tokenizer spells the model's blank {blank} as {spelled!r}"
        if beyond := next((token for token, number in letters.items() if number >= labels), None):
            return f"its tokenizer spells {beyond!r} as {letters[beyond]} and the model has {labels} labels"
        stated = tokenizer.get_vocab().get(getattr(processor, "blank_token", None), blank)
        if stated != blank:
            return f"its blank is {stated} and the model's is {blank}"
        spelled_labels = {number for number in tokenizer.get_vocab().values() if number < labels} - {blank}
        if len(spelled_labels) < labels // 2:
            return f"its tokenizer spells {len(spelled_labels)} of the model's {labels} labels"
        return None

    def forward(
        self, model: Any, inputs: Mapping[str, Tensor], labels: Tensor | None = None, *, hidden_states: bool = False
    ) -> TransducerOutput:
        """The encoder on the audio, the prediction network on the text and, with labels, the loss of their lattice."""
        encoded = model.get_audio_features(**_of_audio(inputs), output_hidden_states=hidden_states)
        read, mask = inputs["decoder_input_ids"], inputs.get("decoder_attention_mask")
        frames, longest = self._frames(model, inputs, encoded.pooler_output), read.shape[1] - 1
        output = TransducerOutput(
            hidden_states=encoded.hidden_states,
            audio=encoded.pooler_output,
            text=model.decoder(read),
            labels=read[:, 1:],
            frames=frames,
            tokens=torch.full_like(frames, longest) if mask is None else mask.sum(-1) - 1,
            model=model,
        )
        if labels is not None:
            said = labels[:, :longest]
            count = (said >= 0).sum(-1)
            output.loss = self.mean(-self._arcs(output, said).log_probability(frames, count), count)
        return output

    def outputs(self, output: Any) -> Tensor:
        audio: Tensor = output.audio
        return audio

    def posteriors(self, student: Any, teacher: Any, valid: Tensor) -> list[Compared]:
        """Scores of the next token, and of its duration, at the nodes of the teacher's best alignment of the text.

        Decoding hardly ever comes elsewhere, and the logits of all nodes would fill memory.
        """
        nodes = self._arcs(teacher, teacher.labels).best_alignment(teacher.frames, teacher.tokens)
        row, frame, column = nodes.nonzero(as_tuple=True)
        mine, theirs = (
            one.model.joint(one.text[row, column], one.audio[row, frame]).unsqueeze(0) for one in (student, teacher)
        )
        tokens = teacher.model.config.vocab_size
        parts = [slice(0, tokens), *([slice(tokens, None)] if mine.shape[-1] > tokens else [])]
        everywhere = torch.ones(mine.shape[:2], dtype=torch.bool, device=mine.device)
        return [Compared(mine[..., part], theirs[..., part], everywhere) for part in parts]

    def hidden_states(
        self, output: Any, valid: Tensor, lengths: Tensor | None
    ) -> list[tuple[tuple[Tensor, ...], Tensor]]:
        return [(output.hidden_states, valid)]

    def add_texts(
        self,
        teacher: Any,
        processor: Any,
        batch: Texts,
        *,
        languages: Sequence[str | None] = (),
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> Texts:
        """The batch with `decoder_input_ids` and `decoder_attention_mask` (batch, tokens + 1): a blank, then the text.

        Where one of them has no transcript, all get what the teacher writes, as CTC's have no task then.
        """
        labels, texts = batch.labels, batch.texts
        if labels is None:
            with precision():
                found = self.emissions(teacher, batch.inputs)
            labels = padded_labels([[one.token for one in row] for row in found])
            texts = [spell(row, processor) for row in found]
        blank, said = teacher.config.blank_token_id, labels >= 0
        inputs = {
            **batch.inputs,
            "decoder_input_ids": pad(labels.masked_fill(~said, blank), (1, 0), value=blank),
            "decoder_attention_mask": pad(said.long(), (1, 0), value=1),
        }
        return Texts(inputs, labels, texts)

    def example_inputs(self, model: Any, inputs: Mapping[str, Tensor], tokens: int) -> dict[str, Tensor]:
        batch, blank = len(next(iter(inputs.values()))), model.config.blank_token_id
        text = torch.arange(batch * tokens).reshape(batch, tokens) * 7 % (model.config.vocab_size - 1)
        text = text + (text >= blank)
        text[:, 0] = blank
        return {**inputs, "decoder_input_ids": text.to(model.device)}

    def decoding_forward(self, model: Any, inputs: Mapping[str, Tensor]) -> Any:
        """The encoder, the prediction network on the text, and the joint network once for each frame and token.

        TDT skips some of the frames.
        """
        output = self.forward(model, inputs)
        steps = output.audio.shape[1] + output.text.shape[1] - 1
        return model.joint(output.text[:, :1].expand(-1, steps, -1), output.audio[:, :1].expand(-1, steps, -1))

    # Not inference_mode, as in CTC.
    @torch.no_grad()
    def emissions(self, model: Any, inputs: Mapping[str, Tensor]) -> list[list[Emission]]:
        """Decode a padded batch greedily; takes what the forward takes, on any device.

        The tokens are those of transformers' `generate`, without its blanks.
        """
        device = device_of(model)
        audio = self.encoded(model, {name: value.to(device) for name, value in _of_audio(inputs).items()})
        lengths = torch.tensor([len(row) for row in audio], device=device)
        return self.decoded(model, pad_sequence(audio, batch_first=True), lengths)

    def encoded(self, model: Any, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """(frames, dim) of each utterance, its valid output frames alone, as the joint network reads them."""
        states = model.get_audio_features(**inputs).pooler_output
        lengths = self._frames(model, inputs, states).tolist()
        return [row[:length].float() for row, length in zip(states, lengths, strict=True)]

    def decoded(
        self, model: Any, audio: Tensor, lengths: Tensor, seen: list[Tensor] | None = None
    ) -> list[list[Emission]]:
        """Decode greedily what `encoded` gave, (batch, frames, dim), of so many valid frames each.

        Args:
            seen: the logits of every step, (batch, 1, labels), are added to it.
        """
        config, (predict, joint) = model.config, self.networks(model)

        def noted(text: Tensor, audio: Tensor) -> Tensor:
            logits = joint(text, audio)
            if seen is not None:
                seen.append(logits)
            return logits

        return greedy_emissions(
            predict,
            noted,
            audio,
            lengths,
            vocabulary=config.vocab_size,
            blank=config.blank_token_id,
            durations=self.durations(config),
            most=config.max_symbols_per_step,
            written=self.written,
        )

    @torch.no_grad()
    def steps(self, model: Any, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """(labels,) logits of every step of decoding one utterance, of tokens and then of durations."""
        seen: list[Tensor] = []
        (audio,) = self.encoded(model, _of_audio(inputs))
        self.decoded(model, audio.unsqueeze(0), torch.tensor([len(audio)]), seen)
        return [each[0, -1] for each in seen]

    def networks(self, model: Any) -> tuple[Predict, Joint]:
        """The prediction network, at the beginning of texts, and the joint network; of an exported one, its own."""
        if made := getattr(model, "networks", None):
            own: tuple[Predict, Joint] = made()
            return own
        cache = ParakeetRNNTDecoderCache(model.config)
        return lambda tokens: model.decoder(tokens.unsqueeze(1), cache=cache), model.joint

    def greedy(
        self,
        model: Any,
        inputs: Mapping[str, Tensor],
        processor: Any,
        *,
        languages: Sequence[str | None] = (),
        task: str | None = None,
    ) -> list[str]:
        return [spell(row, processor) for row in self.emissions(model, inputs)]

    def by_graph(self, model: Any, inputs: Mapping[str, Tensor], graph: TextDecoder) -> list[str]:
        raise UserError("a transducer's scores depend on the text so far and it takes no decoding graph: leave it out")

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
        """Long-form decoding: the encoder in overlapping chunks, and one text over all of their frames.

        Neither does a word at a seam count twice, nor does the prediction network forget what was written before it.
        """
        if graph is not None:
            self.by_graph(model, {}, graph)
        stride, rate, device = self.samples_per_frame(model, processor), rate_of(processor), device_of(model)
        chunk, context = (int(seconds * rate) // stride for seconds in (chunk_seconds, overlap_seconds / 2))

        @torch.no_grad()
        def frames_of(audio: np.ndarray) -> np.ndarray:
            inputs = {name: value.to(device) for name, value in features_of([audio], processor).items()}
            states: np.ndarray = self.encoded(model, inputs)[0].cpu().numpy()
            return states

        @torch.no_grad()
        def recognise(audio: np.ndarray) -> str:
            states = frames_in_chunks(audio, frames_of, stride=stride, chunk=chunk, context=context)
            whole = torch.from_numpy(states).to(device).unsqueeze(0)
            return spell(self.decoded(model, whole, torch.tensor([len(states)], device=device))[0], processor)

        return Transcriber(rate, chunk * stride, recognise)

    def with_text_length(self, model: Any, tokens: int) -> Any:
        model = copy.copy(model)
        model.head = replace(self, written=tokens)
        return model

    def _frames(self, model: Any, inputs: Mapping[str, Tensor], states: Tensor) -> Tensor:
        """(batch,) valid frames of `states`."""
        lengths = self.output_lengths(model, inputs)
        if lengths is None:
            lengths = torch.full(states.shape[:1], states.shape[1], device=states.device)
        return lengths

    def _arcs(self, output: Any, labels: Tensor) -> Arcs:
        config = output.model.config
        return arcs_of(
            output.model.joint,
            output.audio,
            output.text,
            labels,
            vocabulary=config.vocab_size,
            blank=config.blank_token_id,
            durations=self.durations(config),
        )


@dataclass(frozen=True)
class RNNT(Transducer):
    """A blank goes on by one frame, a token by none (Graves 2012)."""

    auto_class: ClassVar[str] = "AutoModelForRNNT"

    def durations(self, config: Any) -> tuple[int, ...]:
        return ()

    def mean(self, losses: Tensor, tokens: Tensor) -> Tensor:
        """Nats per token of the batch, as transformers' loss."""
        return losses.sum() / tokens.sum().clamp_min(1)


@dataclass(frozen=True)
class TDT(Transducer):
    """A token and a blank each go on by a duration that is predicted with them (Xu et al. 2023)."""

    auto_class: ClassVar[str] = "AutoModelForTDT"

    def durations(self, config: Any) -> tuple[int, ...]:
        return tuple(config.durations)

    def mean(self, losses: Tensor, tokens: Tensor) -> Tensor:
        """Mean over texts of the nats per token, as transformers' loss; a text without tokens counts as one of one."""
        return (losses / tokens.clamp_min(1)).mean()


def _of_audio(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of the encoder alone."""
    return {name: value for name, value in inputs.items() if name != "labels" and not name.startswith("decoder_")}
