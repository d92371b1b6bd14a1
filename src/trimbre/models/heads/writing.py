"""Texts of a Whisper, exported or not: windows of audio in, what its `generate` writes out."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from trimbre.models.heads.generation import GenerationRules
from trimbre.models.heads.settings import generating


@torch.no_grad()
def generated(
    model: Any,
    inputs: Mapping[str, Tensor],
    processor: Any,
    *,
    language: str | Sequence[str | None] | None = None,
    task: str | None = None,
    until: StoppingCriteria | None = None,
    rules: GenerationRules | None = None,
) -> list[str]:
    """Let the decoder write the text of every window of a batch, by the rules of the model's own generation config.

    Args:
        model: in eval mode.
        language: what is spoken, such as `en`, or that of every window; None is left to the model, which takes its
            preset one or detects it.
        task: `transcribe` or `translate`; None is the model's preset one.
        until: ends a text before the model does.
        rules: those of the model by default.

    Raises:
        OptionError: the model does not have that language or task.
        UserError: `generate` refuses the model's generation config.
    """
    rules = rules or GenerationRules.of(model, processor)
    features = inputs["input_features"].to(model.device)
    stated = [language] * len(features) if language is None or isinstance(language, str) else language
    asked = [rules.checked(one, task) for one in stated]
    texts = [""] * len(asked)
    for named in (True, False):  # those without a language begin as the model has it, whatever others are beside them
        rows = [row for row, (spoken, _) in enumerate(asked) if (spoken is not None) == named]
        if rows:
            spoken = [asked[row][0] or "" for row in rows] if named else None
            tokens = _generate(model, features[rows], rules, spoken, asked[rows[0]][1], until)
            for row, text in zip(rows, processor.batch_decode(tokens, skip_special_tokens=True), strict=True):
                texts[row] = text.strip()
    return texts


def decided(
    model: Any, inputs: Mapping[str, Tensor], processor: Any, *, language: str | None, task: str | None
) -> GenerationRules:
    """The rules of a model, with the language that it detects in a window, a batch of one, where it detects one."""
    rules = GenerationRules.of(model, processor)
    asked = rules.checked(language, task)
    if None not in rules.prompt(*asked):
        return rules
    config = rules.config(model.generation_config, *asked)
    with torch.no_grad():
        (token,) = model.detect_language(inputs["input_features"].to(model.device), generation_config=config)
    return rules.preset(*asked).decided(int(token))


def _generate(
    model: Any,
    features: Tensor,
    rules: GenerationRules,
    language: list[str] | None,
    task: str | None,
    until: StoppingCriteria | None,
) -> Tensor:
    """The tokens of every window, (batch, tokens), after the prompt."""
    # All of a window counts, silence included. Tokens that pad a batch's texts are the end token again.
    mask = torch.ones(features.shape[::2], dtype=torch.long, device=features.device)
    config = rules.config(model.generation_config, language[0] if language else None, task)
    if config is not rules:  # of transformers, which fills up what it lacks from the model's own
        model = copy.copy(model)
        model.generation_config = config
    with generating():
        tokens: Tensor = model.generate(
            features,
            generation_config=config,
            attention_mask=mask,
            language=language,
            task=task,
            stopping_criteria=None if until is None else StoppingCriteriaList([until]),
        )
    return tokens
