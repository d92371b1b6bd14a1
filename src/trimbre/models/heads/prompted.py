"""Encoder-decoders whose texts begin with a prompt that the processor makes: what is spoken, what is to be written."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trimbre.errors import OptionError
from trimbre.models.heads.seq2seq import Precision, Seq2Seq, batch_of, start_of
from trimbre.models.heads.settings import named


@dataclass(frozen=True, kw_only=True)
class Prompted(Seq2Seq):
    """Scores of the next token of a text that follows a prompt.

    The language is that of the utterance, or else `language` of the generation config. The model does not detect it.
    """

    prompt: Callable[[Any, str, str | None], list[int]]
    """A processor, the code of a language, and `transcribe`, `translate` or None -> the tokens before a text."""
    languages: frozenset[str]
    """Codes of the languages that can be spoken."""
    translates: bool = False
    """Whether it also writes English for what is spoken in others."""

    def language(self, model: Any) -> str | None:
        return getattr(model.generation_config, "language", None)

    def check_asked(self, model: Any, processor: Any, *, language: str | None, task: str | None) -> None:
        if not (self.translates and task == "translate"):
            super().check_asked(model, processor, language=language, task=task)
        if language is not None and language not in self.languages:
            raise OptionError("language", language, f"the model has no such language; it has {named(self.languages)}")

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
        """The prompt of every utterance.

        Raises:
            OptionError: nothing says what is spoken, or the model has no such language.
        """
        spoken = [language or self.language(model) for language in (languages or [None] * batch_of(inputs))]
        found: dict[str, list[int]] = {}
        for language in spoken:
            if language is None:
                advice = f"the model does not detect what is spoken: give one of {named(self.languages)}"
                raise OptionError("language", None, advice)
            if language not in found:
                self.check_asked(model, processor, language=language, task=task)
                tokens = self.prompt(processor, language, task)
                begin = [start_of(model)]  # which `generate` puts before a prompt that does not have it
                found[language] = tokens if tokens[:1] == begin else begin + tokens
        return [found[language] for language in spoken if language]
