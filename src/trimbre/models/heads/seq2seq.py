"""Encoder-decoder models: a decoder that writes text, one token after the other, with attention over the audio."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import StoppingCriteria, StoppingCriteriaList

from trimbre.errors import UserError
from trimbre.models.heads.base import CHUNK_SECONDS, OVERLAP_SECONDS, Head, TextDecoder, Texts, Transcriber
from trimbre.models.heads.settings import generating, refuse_malformed
from trimbre.models.inputs import features_of, rate_of, window_of
from trimbre.models.labels import letters_of

REPEATS = 4
"""How often the end of a text has to recur to be taken for a repetition loop."""
LONGEST_PERIOD = 24
"""Tokens in one turn of a loop, at most."""
SHORTEST_LOOP = 48
"""Tokens in a loop, at least: people repeat themselves too."""

TEXT = ("labels", "decoder_input_ids", "decoder_attention_mask")
"""Inputs of a forward that are not of the audio."""
GREEDILY = {"num_beams": 1, "do_sample": False, "num_return_sequences": 1, "return_dict_in_generate": False}
"""What `generate` is asked for, whatever a generation config says."""

Precision: TypeAlias = Callable[[], AbstractContextManager[Any]]
Prefixes: TypeAlias = Sequence[Sequence[int]]


class StopRepetition(StoppingCriteria):
    """Ends a text in a repetition loop, as decoders write on unintelligible speech, up to the longest text there is.

    Nothing is learned from further turns, and writing them takes as long as several steps of training.
    """

    def __call__(self, input_ids: Tensor, scores: Any, **rest: Any) -> Tensor:
        """(batch,) bool: which of the texts, (batch, tokens), end here."""
        ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for period in range(1, LONGEST_PERIOD + 1):
            length = max(SHORTEST_LOOP, REPEATS * period)
            if input_ids.shape[1] >= length:
                tail = input_ids[:, -length:]
                ended |= (tail[:, period:] == tail[:, :-period]).all(1)
        return ended


@dataclass(frozen=True)
class Seq2Seq(Head):
    """Scores of the next token for every token of a text."""

    name: ClassVar[str] = "seq2seq"
    auto_class: ClassVar[str] = "AutoModelForSpeechSeq2Seq"
    positions: ClassVar[Literal["frames", "tokens"]] = "tokens"
    # The posteriors of a text say as much as hidden states do, and more weight on these gained nothing.
    layer_weight: ClassVar[float] = 1.0
    reads_text: ClassVar[bool] = True
    takes_graph: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    def misfit(self, model: Any, processor: Any) -> str | None:
        """Whether the tokenizer's letters are tokens of the model, and both end a text with the same."""
        tokenizer = processor.tokenizer
        labels, letters = getattr(model.config, "vocab_size", None), letters_of(tokenizer)
        if labels is not None and (beyond := next((one for one, number in letters.items() if number >= labels), None)):
            return f"its tokenizer spells {beyond!r} as {letters[beyond]} and the model has {labels} tokens"
        ends, end = model.config.eos_token_id, tokenizer.eos_token_id
        if None not in (ends, end) and end not in (ends if isinstance(ends, list) else [ends]):
            return f"its tokenizer ends a text with {end} and the model with {ends}"
        return None

    def hidden_states(
        self, output: Any, valid: Tensor, lengths: Tensor | None
    ) -> list[tuple[tuple[Tensor, ...], Tensor]]:
        encoder = output.encoder_hidden_states
        # An encoder that sees whole windows has no lengths: the silence that fills one up counts as much as all else.
        counts = torch.ones(encoder[0].shape[:2], dtype=torch.bool, device=valid.device)
        if lengths is not None:
            counts = torch.arange(counts.shape[1], device=valid.device) < lengths.to(valid.device).unsqueeze(1)
        return [(encoder, counts), (output.decoder_hidden_states, valid)]

    def prefixes(
        self,
        model: Any,
        processor: Any,
        inputs: Mapping[str, Tensor],
        languages: Sequence[str | None],
        *,
        task: str | None = None,
        precision: Precision = nullcontext,
    ) -> list[list[int]]:
        """The tokens that the text of every utterance starts with and that the model does not write itself.

        Args:
            languages: of each utterance; none where they are not known.
        """
        return [[start_of(model)] for _ in range(batch_of(inputs))]

    def written(
        self,
        model: Any,
        processor: Any,
        inputs: Mapping[str, Tensor],
        prefixes: Prefixes,
        *,
        until: StoppingCriteria | None = None,
    ) -> list[str]:
        """The text that a model writes for every utterance after its prefix, by its own generation config.

        Args:
            until: ends a text before the model does.

        Raises:
            UserError: the model's generation config has settings that are malformed, or that `generate` refuses.
        """
        refuse_malformed(model.generation_config)
        texts = [""] * len(prefixes)
        stop = None if until is None else StoppingCriteriaList([until])
        for begun in sorted({len(prefix) for prefix in prefixes}):  # `generate` takes prefixes of one length
            rows = [row for row, prefix in enumerate(prefixes) if len(prefix) == begun]
            taken = {name: value[rows].to(model.device) for name, value in inputs.items() if name not in TEXT}
            if begun > 1:
                taken["decoder_input_ids"] = torch.tensor([list(prefixes[row]) for row in rows], device=model.device)
            with torch.no_grad(), generating():
                tokens = model.generate(**taken, **GREEDILY, stopping_criteria=stop)
            found = processor.batch_decode(tokens[:, begun:], skip_special_tokens=True)
            for row, text in zip(rows, found, strict=True):
                texts[row] = text.strip()
        return texts

    def spelled(self, processor: Any, text: str) -> list[int]:
        """The tokens of a transcript, as the model writes it after its prefix."""
        return list(processor.tokenizer(text, add_special_tokens=False).input_ids)

    def add_texts(
        self,
        teacher: Any,
        processor: Any,
        batch: Texts,
        *,
        languages: Sequence[str | None] = (),
        precision: Precision = nullcontext,
    ) -> Texts:
        """The batch with `decoder_input_ids` and `decoder_attention_mask` (batch, tokens) and, as labels, what follows.

        Audio without a text gets what the teacher writes for it, as it was augmented: a text of its own, on which its
        posteriors teach most (Gandhi et al. 2023). What is given to the decoder and not written by it, the prefix, is
        no label; the end of the text is one.
        """
        self.check_taught(teacher, processor)
        inputs = {name: value.to(teacher.device) for name, value in batch.inputs.items()}
        prefixes = self.prefixes(teacher, processor, inputs, languages, precision=precision)
        texts = self._texts(teacher, processor, inputs, batch.texts, prefixes, precision)
        longest, end = room_of(teacher), end_of(teacher)
        read, expected = [], []
        for prefix, text in zip(prefixes, texts, strict=True):
            tokens = [*prefix, *self.spelled(processor, text), end]
            read.append(torch.tensor(tokens[:-1][:longest]))
            expected.append(torch.tensor([*[-100] * (len(prefix) - 1), *tokens[len(prefix) :]][:longest]))
        given = {
            **batch.inputs,
            "decoder_input_ids": _padded(read, end),
            "decoder_attention_mask": _padded([torch.ones_like(row) for row in read], 0),
        }
        return Texts(given, _padded(expected, -100), texts)

    def _texts(
        self,
        teacher: Any,
        processor: Any,
        inputs: Mapping[str, Tensor],
        texts: Sequence[str | None],
        prefixes: Prefixes,
        precision: Precision,
    ) -> list[str]:
        """The text of every utterance: its transcript, or the teacher's own."""
        missing = [number for number, text in enumerate(texts) if text is None]
        if not missing:
            return [text or "" for text in texts]
        taken, begun = {name: value[missing] for name, value in inputs.items()}, [prefixes[row] for row in missing]
        # Token by token, weights are read once and used once: autocast would cast each to bfloat16 every time.
        with nullcontext() if teacher.dtype == torch.float32 else precision():
            written = iter(self.written(teacher, processor, taken, begun, until=StopRepetition()))
        return [next(written) if text is None else text for text in texts]

    def example_inputs(self, model: Any, inputs: Mapping[str, Tensor], tokens: int) -> dict[str, Tensor]:
        batch = batch_of(inputs)
        text = torch.arange(batch * tokens).reshape(batch, tokens) * 7 % model.config.vocab_size
        return {**inputs, "decoder_input_ids": text.to(model.device)}

    def greedy(
        self,
        model: Any,
        inputs: Mapping[str, Tensor],
        processor: Any,
        *,
        languages: Sequence[str | None] = (),
        task: str | None = None,
    ) -> list[str]:
        prefixes = self.prefixes(model, processor, inputs, languages, task=task)
        return self.written(model, processor, inputs, prefixes)

    def by_graph(self, model: Any, inputs: Mapping[str, Tensor], graph: TextDecoder) -> list[str]:
        raise UserError("a model with a decoder of its own takes no decoding graph: leave the graph out")

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
        """Long-form decoding in pieces side by side, cut where it is quietest, of the model's window at most.

        The decoder writes text and not frames, so that the texts of overlapping pieces would have words twice. A model
        without a window of its own gets pieces of `chunk_seconds` at most.
        """
        if graph is not None:
            self.by_graph(model, {}, graph)
        rate = rate_of(processor)
        window = int((window_of(processor) or chunk_seconds) * rate)

        def recognise(audio: np.ndarray) -> str:
            pieces = list(_pieces(audio, window, rate))
            write = self.writer(model, processor, len(pieces), language=language, task=task)
            texts = [write(features_of([piece], processor)) for piece in pieces]
            return " ".join(text for text in texts if text)

        return Transcriber(rate, window, recognise)

    def writer(
        self, model: Any, processor: Any, pieces: int, *, language: str | None, task: str | None
    ) -> Callable[[Mapping[str, Tensor]], str]:
        """A function from the inputs of one piece to its text, called for so many `pieces` of a recording in turn."""
        return lambda inputs: self.greedy(model, inputs, processor, languages=[language], task=task)[0]

    def with_text_length(self, model: Any, tokens: int) -> Any:
        model = copy.copy(model)
        model.generation_config = copy.deepcopy(model.generation_config)
        model.generation_config.update(min_new_tokens=tokens, max_new_tokens=tokens)
        return model


def start_of(model: Any) -> int:
    """The token that `generate` begins every text with."""
    generation, config = model.generation_config, model.config
    stated = (generation.decoder_start_token_id, getattr(config, "decoder_start_token_id", None))
    start = next((token for token in (*stated, generation.bos_token_id) if token is not None), None)
    if not isinstance(start, int):
        raise UserError(
            f"the generation config has decoder_start_token_id={start!r}: give one token in generation_config.json"
        )
    return start


def end_of(model: Any) -> int:
    """The token that ends a text."""
    stated = (model.generation_config.eos_token_id, model.config.eos_token_id)
    end = next((token for token in stated if token is not None), None)
    end = end[0] if isinstance(end, list) and end else end
    if not isinstance(end, int):
        raise UserError(f"the generation config has eos_token_id={end!r}: give one token in generation_config.json")
    return end


def room_of(model: Any) -> int | None:
    """Tokens of the longest text that a decoder has positions for; None where nothing says it."""
    config = model.config.get_text_config(decoder=True)
    names = ("max_target_positions", "max_position_embeddings")
    return next((getattr(config, name) for name in names if getattr(config, name, None)), None)


def batch_of(inputs: Mapping[str, Tensor]) -> int:
    """Utterances of a batch."""
    return len(next(iter(inputs.values())))


def _padded(rows: Sequence[Tensor], value: int) -> Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_value=value)


def _pieces(audio: np.ndarray, window: int, rate: int) -> Iterator[np.ndarray]:
    """Audio in pieces of `window` samples at most, cut in the last third of one where it is quietest."""
    while len(audio):
        begin = window * 2 // 3
        end = len(audio) if len(audio) <= window else _quietest(audio[begin:window], rate) + begin
        yield audio[:end]
        audio = audio[end:]


def _quietest(audio: np.ndarray, rate: int) -> int:
    """The middle of the quietest fifth of a second, in samples at `rate` Hz."""
    width = rate // 5
    energy = np.cumsum(np.square(audio, dtype=np.float64))
    return int(np.argmin(energy[width:] - energy[:-width])) + width // 2
