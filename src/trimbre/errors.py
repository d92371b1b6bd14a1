"""Errors about input: one sentence that names the option or file and says what to do."""

from typing import Any


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


def at_least(name: str, value: float, least: float, *, owner: str = "") -> None:
    """Raise OptionError for a number that is too low."""
    if not value >= least:
        raise OptionError(name, value, f"give {least} or more", owner=owner)


def above_zero(name: str, value: float, *, owner: str = "") -> None:
    """Raise OptionError for a number that is not above zero."""
    if not value > 0:
        raise OptionError(name, value, "give a number above 0", owner=owner)


def one_of(name: str, value: str, known: tuple[str, ...], *, owner: str = "") -> None:
    """Raise OptionError for a value that is not among the known ones."""
    if value not in known:
        raise OptionError(name, value, f"choose one of {', '.join(known)}", owner=owner)
