"""What a decoder reads while it is trained: transcripts as they are written, or the teacher's own words."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin, StoppingCriteria

from trimbre.data.batches import Batch
from trimbre.inference.greedy import generated

LAPS = 4
"""How often the end of a text comes over before it's taken to be going round in circles."""
LONGEST_LAP = 24
"""Tokens that may come over, at most."""
CIRCLE = 48
"""Tokens that go round in circles, at least: people repeat themselves too."""


class StopRepetition(StoppingCriteria):
    """Ends a text that repeats itself, as a Whisper's does on speech it doesn't understand, up to all it may write.

    Nothing is learned from one lap more, and writing them takes as long as several steps of training.
    """

    def __call__(self, input_ids: Tensor, scores: Any, **rest: Any) -> Tensor:
        """(batch,) bool: which of the texts, (batch, tokens), end here."""
        ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for lap in range(1, LONGEST_LAP + 1):
            length = max(CIRCLE, LAPS * lap)
            if input_ids.shape[1] >= length:
                tail = input_ids[:, -length:]
                ended |= (tail[:, lap:] == tail[:, :-lap]).all(1)
        return ended


class PseudoLabeller:
    """Gives a batch the text that an encoder-decoder model's forward takes beside the audio.

    A window without a text gets what the teacher writes on hearing it, as it was augmented: text of its own, on which
    its posteriors teach most (Gandhi et al. 2023).
    """

    def __init__(
        self,
        teacher: PreTrainedModel,
        processor: ProcessorMixin,
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ):
        self.teacher: Any = teacher
        self.precision = precision
        self.tokenizer: Any = processor.tokenizer  # type: ignore[attr-defined]
        self.processor = processor
        self.special: Any = teacher.generation_config

    def __call__(self, batch: Batch) -> Batch:
        """The batch with `decoder_input_ids` and `decoder_attention_mask` (batch, tokens) and, as labels, what follows.

        What is given to the decoder and not written by it, the prefix, is no label; the end of the text is one.
        """
        features = batch.inputs["input_features"].to(self.teacher.device)
        prefixes = self._prefixes(features, batch.languages)
        texts = self._texts(features, batch.texts, prefixes)
        longest: int = self.teacher.config.max_target_positions
        read, written = [], []
        for prefix, text in zip(prefixes, texts, strict=True):
            spelled = self.tokenizer(f" {text}".rstrip(), add_special_tokens=False).input_ids
            tokens = [*prefix, *spelled, self.teacher.config.eos_token_id]
            read.append(torch.tensor(tokens[:-1][:longest]))
            written.append(torch.tensor([*[-100] * (len(prefix) - 1), *tokens[len(prefix) :]][:longest]))
        inputs = {
            **batch.inputs,
            "decoder_input_ids": _padded(read, self.teacher.config.eos_token_id),
            "decoder_attention_mask": _padded([torch.ones_like(row) for row in read], 0),
        }
        return replace(batch, inputs=inputs, labels=_padded(written, -100), texts=texts)

    def _prefixes(self, features: Tensor, languages: Sequence[str | None]) -> list[list[int]]:
        """The tokens that every text starts with; where nobody says which language is spoken, the teacher does."""
        start, plain = self.special.decoder_start_token_id, self.special.no_timestamps_token_id
        if not getattr(self.special, "is_multilingual", False):
            return [[start, plain]] * len(features)
        named = [self.special.lang_to_id.get(f"<|{language}|>") for language in languages]
        if None in named:
            with torch.no_grad(), self.precision():
                heard = self.teacher.detect_language(features).tolist()
            named = [said if said is not None else guess for said, guess in zip(named, heard, strict=True)]
        task = self.special.task_to_id["transcribe"]
        return [[start, language, task, plain] for language in named]

    def _texts(self, features: Tensor, texts: Sequence[str | None], prefixes: Sequence[list[int]]) -> list[str]:
        missing = [number for number, text in enumerate(texts) if text is None]
        if not missing:
            return [text or "" for text in texts]
        spoken = self.tokenizer.convert_ids_to_tokens([prefixes[number][1] for number in missing])
        # Token by token, weights are read once and used once: autocast would bring each down to bfloat16 every time.
        with nullcontext() if self.teacher.dtype == torch.float32 else self.precision():
            written = generated(
                self.teacher,
                {"input_features": features[missing]},
                self.processor,
                language=spoken,
                until=StopRepetition(),
            )
        found = iter(written)
        return [next(found) if text is None else text for text in texts]


def _padded(rows: Sequence[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)
