"""Canary: Parakeet's encoder and a decoder that writes the language that is spoken, or English."""

from typing import Any

import numpy as np
from transformers.models.canary.processing_canary import LANGUAGE_CODE_TO_NAME

from trimbre.models.families.cohere_asr import LENGTHS, anatomy
from trimbre.models.families.registry import Family
from trimbre.models.heads.prompted import Prompted


def prompt(processor: Any, language: str, task: str | None) -> list[int]:
    """The tokens before a text, as the chat template of the processor gives them."""
    written = "en" if task == "translate" else language
    (text,) = processor.apply_transcription_request(
        np.zeros(1, dtype=np.float32), source_language=language, target_language=written, tokenize=False
    )
    return list(processor.tokenizer(text).input_ids)


FAMILY = Family(
    name="canary",
    classes=("CanaryForConditionalGeneration",),
    head=Prompted(
        lengths=LENGTHS,
        masks_padding=True,
        prompt=prompt,
        languages=frozenset(LANGUAGE_CODE_TO_NAME),
        translates=True,
    ),
    anatomy=anatomy,
    runtimes=(),
)
