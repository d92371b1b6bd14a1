"""Encoder-decoder models: a decoder that writes text, one token after the other, with attention over the audio."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import StoppingCriteria

from trimbre.errors import UserError
from trimbre.models.heads.base import CHUNK_SECONDS, OVERLAP_SECONDS, Head, TextDecoder, Texts, Transcriber
from trimbre.models.heads.generation import GenerationRules, written_language
from trimbre.models.heads.writing import decided, generated, is_prompted
from trimbre.models.inputs import features_of, rate_of, window_of
from trimbre.models.labels import letters_of

REPEATS = 4
"""How often the end of a text has to recur to be taken for a repetition loop."""
LONGEST_PERIOD = 24
"""Tokens in one turn of a loop, at most."""
SHORTEST_LOOP = 48
"""Tokens in a loop, at least: people repeat themselves too."""


class StopRepetition(StoppingCriteria):
    """Ends a text in a repetition loop, as Whisper writes on unintelligible speech, up to the longest text there is.

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
        """Whether the window is the model's, and tokens are in their places: those that the generation config names."""
        tokenizer = processor.tokenizer
        frames = getattr(processor.feature_extractor, "nb_max_frames", None)
        positions = getattr(model.config, "max_source_positions", None)
        if frames is not None and positions is not None and frames != 2 * positions:
            return f"its windows are of {frames} frames and the model's of {2 * positions}"
        labels, letters = getattr(model.config, "vocab_size", None), letters_of(tokenizer)
        if labels is not None and (beyond := next((one for one, number in letters.items() if number >= labels), None)):
            return f"its tokenizer spells {beyond!r} as {letters[beyond]} and the model has {labels} tokens"
        ends, end = model.config.eos_token_id, tokenizer.eos_token_id
        if None not in (ends, end) and end not in (ends if isinstance(ends, list) else [ends]):
            return f"its tokenizer ends a text with {end} and the model with {ends}"
        vocabulary = tokenizer.get_vocab()
        for token, number in _named_tokens(model).items():
            if vocabulary.get(token, number) != number:
                return f"its tokenizer has {token} as {vocabulary[token]} and the model's generation config as {number}"
        return None

    def hidden_states(self, output: Any, valid: Tensor) -> list[tuple[tuple[Tensor, ...], Tensor]]:
        encoder = output.encoder_hidden_states
        # The encoder sees whole windows: the silence that fills one up counts as much as all else.
        everything = torch.ones(encoder[0].shape[:2], dtype=torch.bool, device=valid.device)
        return [(encoder, everything), (output.decoder_hidden_states, valid)]

    def add_texts(
        self,
        teacher: Any,
        processor: Any,
        batch: Texts,
        *,
        languages: Sequence[str | None] = (),
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> Texts:
        """The batch with `decoder_input_ids` and `decoder_attention_mask` (batch, tokens) and, as labels, what follows.

        A window without a text gets what the teacher writes for it, as it was augmented: a text of its own, on which
        its posteriors teach most (Gandhi et al. 2023). What is given to the decoder and not written by it, the prefix,
        is no label; the end of the text is one.
        """
        features = batch.inputs["input_features"].to(teacher.device)
        self.check_taught(teacher, processor)
        rules = GenerationRules.of(teacher, processor).of_transcripts
        prefixes = _prefixes(teacher, features, rules, languages, precision)
        texts = _texts(teacher, processor, features, batch.texts, rules, prefixes, precision)
        longest = teacher.config.max_target_positions
        read, expected = [], []
        for prefix, text in zip(prefixes, texts, strict=True):
            spelled = processor.tokenizer(f" {text}".rstrip(), add_special_tokens=False).input_ids
            tokens = [*prefix, *spelled, rules.end]
            read.append(torch.tensor(tokens[:-1][:longest]))
            expected.append(torch.tensor([*[-100] * (len(prefix) - 1), *tokens[len(prefix) :]][:longest]))
        inputs = {
            **batch.inputs,
            "decoder_input_ids": _padded(read, rules.end),
            "decoder_attention_mask": _padded([torch.ones_like(row) for row in read], 0),
        }
        return Texts(inputs, _padded(expected, -100), texts)

    def example_inputs(self, model: Any, inputs: Mapping[str, Tensor], tokens: int) -> dict[str, Tensor]:
        batch = len(next(iter(inputs.values())))
        text = torch.arange(batch * tokens).reshape(batch, tokens) * 7 % model.config.vocab_size
        return {**inputs, "decoder_input_ids": text.to(model.device)}

    def language(self, model: Any) -> str | None:
        return written_language(model) if is_prompted(model) else None

    def check_asked(self, model: Any, processor: Any, *, language: str | None, task: str | None) -> None:
        if is_prompted(model):
            GenerationRules.of(model, processor).checked(language, task)
        else:
            super().check_asked(model, processor, language=language, task=task)

    def check_taught(self, model: Any, processor: Any) -> None:
        if is_prompted(model) and GenerationRules.of(model, processor).timed:
            raise UserError(
                "the model's generation config asks for return_timestamps=True, and texts without times are what it is "
                "pruned on: set return_timestamps to false in generation_config.json"
            )

    def greedy(
        self,
        model: Any,
        inputs: Mapping[str, Tensor],
        processor: Any,
        *,
        languages: Sequence[str | None] = (),
        task: str | None = None,
    ) -> list[str]:
        return generated(model, inputs, processor, language=languages or None, task=task)

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
        without a window of its own gets pieces of `chunk_seconds` at most. Where the language is detected, the first
        piece decides for the recording, as in transformers.
        """
        if graph is not None:
            self.by_graph(model, {}, graph)
        rate = rate_of(processor)
        window = int((window_of(processor) or chunk_seconds) * rate)

        def recognise(audio: np.ndarray) -> str:
            texts: list[str] = []
            rules = None
            while len(audio):
                begin = window * 2 // 3
                end = len(audio) if len(audio) <= window else _quietest(audio[begin:window], rate) + begin
                inputs = features_of([audio[:end]], processor)
                if end < len(audio) and not texts and is_prompted(model):
                    rules = decided(model, inputs, processor, language=language, task=task)
                texts += generated(model, inputs, processor, language=language, task=task, rules=rules)
                audio = audio[end:]
            return " ".join(text for text in texts if text)

        return Transcriber(rate, window, recognise)

    def with_text_length(self, model: Any, tokens: int) -> Any:
        model = copy.copy(model)
        model.generation_config = copy.deepcopy(model.generation_config)
        model.generation_config.update(min_new_tokens=tokens, max_new_tokens=tokens)
        return model


def _named_tokens(model: Any) -> dict[str, int]:
    """Tokens that a generation config gives a number for, where it has such fields."""
    stated = model.generation_config
    plain = {"<|notimestamps|>": getattr(stated, "no_timestamps_token_id", None)}
    tasks = {f"<|{task}|>": number for task, number in (getattr(stated, "task_to_id", None) or {}).items()}
    found = plain | tasks | (getattr(stated, "lang_to_id", None) or {})
    return {token: number for token, number in found.items() if number is not None}


def _prefixes(
    teacher: Any,
    features: Tensor,
    rules: GenerationRules,
    languages: Sequence[str | None],
    precision: Callable[[], AbstractContextManager[Any]],
) -> list[list[int]]:
    """The tokens that every text starts with; where the language is not known, the teacher detects it."""
    named = languages if rules.multilingual and languages else [None] * len(features)
    prompts = [rules.prompt(*rules.checked(language, None)) for language in named]
    unknown = [row for row, prompt in enumerate(prompts) if None in prompt]
    detected: dict[int, int] = {}
    if unknown:
        config = rules.config(teacher.generation_config, None, None)
        with torch.no_grad(), precision():
            found = teacher.detect_language(features[unknown], generation_config=config).tolist()
        detected = dict(zip(unknown, found, strict=True))
    return [[detected[row] if token is None else token for token in prompt] for row, prompt in enumerate(prompts)]


def _texts(
    teacher: Any,
    processor: Any,
    features: Tensor,
    texts: Sequence[str | None],
    rules: GenerationRules,
    prefixes: Sequence[list[int]],
    precision: Callable[[], AbstractContextManager[Any]],
) -> list[str]:
    """The text of every window: its transcript, or the teacher's own."""
    missing = [number for number, text in enumerate(texts) if text is None]
    if not missing:
        return [text or "" for text in texts]
    # A language that was detected for the prefix is not detected again, unless naming it would change the prompt.
    names = {token: name for name, token in rules.languages.items()}
    known = [names.get(prefixes[number][1]) if len(prefixes[number]) > 1 else None for number in missing]
    spoken = [
        name if name is not None and list(rules.prompt(name)) == prefixes[number] else None
        for number, name in zip(missing, known, strict=True)
    ]
    # Token by token, weights are read once and used once: autocast would cast each to bfloat16 every time.
    with nullcontext() if teacher.dtype == torch.float32 else precision():
        inputs = {"input_features": features[missing]}
        written = generated(teacher, inputs, processor, language=spoken, until=StopRepetition(), rules=rules)
    found = iter(written)
    return [next(found) if text is None else text for text in texts]


def _padded(rows: Sequence[Tensor], value: int) -> Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_value=value)


def _quietest(audio: np.ndarray, rate: int) -> int:
    """The middle of the quietest fifth of a second, in samples at `rate` Hz."""
    width = rate // 5
    energy = np.cumsum(np.square(audio, dtype=np.float64))
    return int(np.argmin(energy[width:] - energy[:-width])) + width // 2
