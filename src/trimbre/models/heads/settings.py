"""Settings of a generation config that are of another kind than they are meant to be, as one writes them by hand.

transformers would fail with them while it writes the first text, in words of its own code.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from trimbre.errors import UserError, reason


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


MEANT: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (
        ("max_length", "max_new_tokens", "no_repeat_ngram_size", "pad_token_id", "no_timestamps_token_id"),
        "a whole number",
        _is_whole,
    ),
    (("repetition_penalty",), "a number", lambda value: isinstance(value, float) or _is_whole(value)),
    (
        ("suppress_tokens", "begin_suppress_tokens"),
        "a list of tokens",
        lambda value: isinstance(value, list | tuple) and all(map(_is_whole, value)),
    ),
    (
        ("lang_to_id", "task_to_id"),
        "a table of tokens",
        lambda value: isinstance(value, dict) and all(map(_is_whole, value.values())),
    ),
)
"""Settings, what their values are, and whether one is."""


def refuse_malformed(generation: Any) -> None:
    """Raise UserError for a setting of a generation config that is not what it is meant to be."""
    for names, meant, fits in MEANT:
        for name in names:
            value = getattr(generation, name, None)
            if value is not None and not fits(value):
                raise UserError(
                    f"the model's generation config has {name}={value!r} in place of {meant}: "
                    f"correct {name} in generation_config.json or take it out"
                )


def refuse_unpaired(forced: Any) -> None:
    """Raise UserError for `forced_decoder_ids` that are not pairs of a position and a token, or None for one."""
    listed = isinstance(forced, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in forced
    )
    if not listed or not all(_is_whole(at) and (token is None or _is_whole(token)) for at, token in forced):
        raise UserError(
            f"the model's generation config has forced_decoder_ids={forced!r} in place of pairs of a position and a "
            "token: give language and task in generation_config.json in their place"
        )


@contextmanager
def generating() -> Iterator[None]:
    """Raise UserError for what `generate` raises of settings that do not go together."""
    try:
        yield
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"transformers refuses the model's generation config, correct it: {reason(error)}") from error


def named(languages: Iterable[str]) -> str:
    """Codes of languages for messages, of tokens such as <|en|>."""
    codes = sorted(name.strip("<|>") for name in languages)
    return ", ".join(codes[:12]) + (f" and {len(codes) - 12} others" if len(codes) > 12 else "")
