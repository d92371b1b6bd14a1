"""Whisper: an encoder-decoder on windows of one length, whose texts begin with tokens for language and task."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from trimbre.errors import UserError
from trimbre.models.heads.generation import GenerationRules, written_language
from trimbre.models.heads.seq2seq import Precision, Prefixes, Seq2Seq
from trimbre.models.heads.writing import decided, generated


@dataclass(frozen=True)
class Whisper(Seq2Seq):
    """Scores of the next token for every token of a text, within the rules of a Whisper's generation config."""

    def misfit(self, model: Any, processor: Any) -> str | None:
        """Whether the window is the model's, and tokens are in their places: those that the generation config names."""
        frames = getattr(processor.feature_extractor, "nb_max_frames", None)
        positions = getattr(model.config, "max_source_positions", None)
        if frames is not None and positions is not None and frames != 2 * positions:
            return f"its windows are of {frames} frames and the model's of {2 * positions}"
        if found := super().misfit(model, processor):
            return found
        vocabulary = processor.tokenizer.get_vocab()
        for token, number in _named_tokens(model).items():
            if vocabulary.get(token, number) != number:
                return f"its tokenizer has {token} as {vocabulary[token]} and the model's generation config as {number}"
        return None

    def language(self, model: Any) -> str | None:
        return written_language(model)

    def check_asked(self, model: Any, processor: Any, *, language: str | None, task: str | None) -> None:
        GenerationRules.of(model, processor).checked(language, task)

    def check_taught(self, model: Any, processor: Any) -> None:
        if GenerationRules.of(model, processor).timed:
            raise UserError(
                "the model's generation config asks for return_timestamps=True, and texts without times are what it is "
                "pruned on: set return_timestamps to false in generation_config.json"
            )

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
        """The tokens that every transcript starts with; where the language is not known, the model detects it."""
        features = inputs["input_features"]
        rules = GenerationRules.of(model, processor).of_transcripts
        named = languages if rules.multilingual and languages else [None] * len(features)
        prompts = [rules.prompt(*rules.checked(language, task)) for language in named]
        unknown = [row for row, prompt in enumerate(prompts) if None in prompt]
        detected: dict[int, int] = {}
        if unknown:
            config = rules.config(model.generation_config, None, None)
            with torch.no_grad(), precision():
                found = model.detect_language(features[unknown], generation_config=config).tolist()
            detected = dict(zip(unknown, found, strict=True))
        return [[detected[row] if token is None else token for token in prompt] for row, prompt in enumerate(prompts)]

    def written(
        self,
        model: Any,
        processor: Any,
        inputs: Mapping[str, Tensor],
        prefixes: Prefixes,
        *,
        until: StoppingCriteria | None = None,
    ) -> list[str]:
        """The transcript that a model writes for every window, in the language that its prefix names."""
        rules = GenerationRules.of(model, processor).of_transcripts
        # A language that was detected for the prefix is not detected again, unless naming it would change the prompt.
        names = {token: name for name, token in rules.languages.items()}
        known = [names.get(prefix[1]) if len(prefix) > 1 else None for prefix in prefixes]
        spoken = [
            name if name is not None and list(rules.prompt(name)) == prefix else None
            for prefix, name in zip(prefixes, known, strict=True)
        ]
        return generated(model, inputs, processor, language=spoken, until=until, rules=rules)

    def spelled(self, processor: Any, text: str) -> list[int]:
        return list(processor.tokenizer(f" {text}".rstrip(), add_special_tokens=False).input_ids)

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

    def writer(
        self, model: Any, processor: Any, pieces: int, *, language: str | None, task: str | None
    ) -> Callable[[Mapping[str, Tensor]], str]:
        """Where the language is detected, the first piece decides for the recording, as in transformers."""
        found: list[GenerationRules] = []

        def write(inputs: Mapping[str, Tensor]) -> str:
            if pieces > 1 and not found:
                found.append(decided(model, inputs, processor, language=language, task=task))
            rules = found[0] if found else None
            return generated(model, inputs, processor, language=language, task=task, rules=rules)[0]

        return write


def _named_tokens(model: Any) -> dict[str, int]:
    """Tokens that a generation config gives a number for, where it has such fields."""
    stated = model.generation_config
    plain = {"<|notimestamps|>": getattr(stated, "no_timestamps_token_id", None)}
    tasks = {f"<|{task}|>": number for task, number in (getattr(stated, "task_to_id", None) or {}).items()}
    found = plain | tasks | (getattr(stated, "lang_to_id", None) or {})
    return {token: number for token, number in found.items() if number is not None}
