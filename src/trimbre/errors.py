"""Errors about input: one sentence that names the option or file and says what to do."""

import gzip
import math
import re
from typing import Any

SENTENCE_END = r"(?<=[\w)\]'\"`])[.!?] (?=[A-Z])"


class UserError(ValueError):
    """Bad input or usage. The command line prints the sentence and exits with 2."""


class OptionError(UserError):
    """An option whose value cannot be used: `remove=1.2: give a share above 0 and below 1`.

    The command line prints the same with the flag in place of the name.

    Args:
        name: the option as Python spells it.
        advice: what is wrong where it is not obvious, and what to give instead.
        owner: name of the config class that the option is a field of, where it is one.
    """

    def __init__(self, name: str, value: Any, advice: str, *, owner: str = ""):
        self.name, self.value, self.advice, self.owner = name, value, advice, owner
        super().__init__(f"{name}={shown(value)}: {advice}")


def shown(value: Any) -> str:
    """A value as one would type it in Python: numbers without trailing zeros."""
    return f"{value:g}" if isinstance(value, float) else repr(value)


def reason(error: BaseException, *, whole: bool = False) -> str:
    """What an error of a library says, in one line and without Python's own names: `No such file or directory`.

    Args:
        whole: all of its sentences as one, where a later one says what there is to choose from; by default the first.
    """
    if said := getattr(error, "strerror", None):  # of the system, or of FFmpeg
        return str(said)
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    if isinstance(error, gzip.BadGzipFile):
        return "it is not compressed by gzip"
    if isinstance(error, AttributeError | TypeError | AssertionError):  # in words of Python alone
        return "a part of it is of another kind than is expected there"
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}" if error.args else "something is missing in it"
    said = one_sentence(str(error)) if whole else first_sentence(str(error))
    return said or "it is not what it should be"


def first_sentence(text: str) -> str:
    """The first sentence of a library's message, without its full stop: what follows is advice on the library."""
    return re.split(SENTENCE_END, " ".join(text.split()), maxsplit=1)[0].rstrip(" .:")


def one_sentence(text: str) -> str:
    """The sentences of a library's message as one, without its full stop."""
    return re.sub(SENTENCE_END, "; ", " ".join(text.split())).rstrip(" .:")


def at_least(name: str, value: float, least: float, *, owner: str = "") -> None:
    """Raise OptionError for a number that is too low or not finite."""
    if not least <= value < math.inf:
        raise OptionError(name, value, f"give {least} or more" + _finite(value), owner=owner)


def above_zero(name: str, value: float, *, owner: str = "") -> None:
    """Raise OptionError for a number that is not above zero or not finite."""
    if not 0 < value < math.inf:
        raise OptionError(name, value, "give a number above 0" + _finite(value), owner=owner)


def usable_seed(name: str, value: int, *, owner: str = "") -> None:
    """Raise OptionError for a seed that the generators of torch and NumPy do not both take."""
    if not 0 <= value < 2**63:
        raise OptionError(name, value, "give a whole number from 0 to below 2**63", owner=owner)


def _finite(value: float) -> str:
    return ", but a finite one" if value == math.inf else ""


def one_of(name: str, value: str, known: tuple[str, ...], *, owner: str = "") -> None:
    """Raise OptionError for a value that is not among the known ones."""
    if value not in known:
        raise OptionError(name, value, f"choose one of {', '.join(known)}", owner=owner)
