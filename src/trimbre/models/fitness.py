"""Whether a processor is the one that a model was trained with: its vocabulary, its blank and its features.

Two that do not belong together recognise something, and nobody sees that it is wrong.
"""

from typing import Any

from transformers import PreTrainedModel

from trimbre.errors import UserError
from trimbre.models.families.registry import head_of
from trimbre.models.folder import with_language_model
from trimbre.models.inputs import rate_of
from trimbre.models.labels import letters_of

STRANGE = "\ue000"
"""A character of Unicode's private use, which no vocabulary has."""


def check_recogniser(model: PreTrainedModel, processor: Any, name: str) -> None:
    """Check that a processor can feed a model and spell its output.

    Args:
        name: of the model, as the user gave it.

    Raises:
        UserError: a part of the processor is missing, or is not the model's.
    """
    if type(processor).__name__.endswith("WithLM"):
        raise with_language_model(name, type(processor).__name__)
    extractor, tokenizer = (getattr(processor, part, None) for part in ("feature_extractor", "tokenizer"))
    if tokenizer is None:
        raise UserError(f"the processor of the model {name} has no tokenizer: give the one that it was trained with")
    if extractor is None:
        raise UserError(
            f"the processor of the model {name} has no feature extractor: give the one that it was trained with"
        )
    rate_of(processor)  # refuses where there is none
    found = (
        _vocabulary_misfit(tokenizer)
        or _features_misfit(model, extractor)
        or head_of(model).misfit(model, processor)
        or _unknown_misfit(tokenizer)
    )
    if found:
        raise UserError(f"the processor of the model {name} is not its own: {found}; give the one it was trained with")


def _vocabulary_misfit(tokenizer: Any) -> str | None:
    """What is wrong with a vocabulary of whatever model."""
    vocabulary = tokenizer.get_vocab()
    if strange := next((token for token, number in vocabulary.items() if not isinstance(number, int)), None):
        return f"its vocabulary has no number for {strange!r} (one of several languages needs a target_lang)"
    letters = letters_of(tokenizer)
    spelled = {number: token for token, number in letters.items()}
    if twice := next((token for token, number in letters.items() if spelled[number] != token), None):
        return f"its vocabulary has {twice!r} and {spelled[letters[twice]]!r} as the same number {letters[twice]}"
    return None if letters else "its vocabulary is empty but for special tokens"


def _unknown_misfit(tokenizer: Any) -> str | None:
    """Whether a letter that the vocabulary lacks can be said at all."""
    lacking = "its vocabulary has no unknown token, so that a letter outside of it has no number"
    try:
        ids = tokenizer(STRANGE, add_special_tokens=False).input_ids
    except Exception:  # tokenizers raises nothing more exact
        return lacking
    if None in ids:
        return lacking
    spelled = tokenizer.unk_token_id in ids or tokenizer.decode(ids).strip() == STRANGE
    return None if spelled else lacking


def _features_misfit(model: PreTrainedModel, extractor: Any) -> str | None:
    """Whether the features are what the model's first layer takes."""
    takes, given = model.main_input_name, extractor.model_input_names
    if takes not in given:
        return f"its feature extractor makes {given[0]} and the model takes {takes}"
    bands, made = head_of(model).bands(model), extractor.feature_size * getattr(extractor, "stride", 1)
    made //= getattr(extractor, "delta_expansion", 1) * getattr(extractor, "frame_stacking", 1)
    if bands is not None and bands != made:
        return f"its feature extractor makes {made} mel bands and the model takes {bands}"
    return None
