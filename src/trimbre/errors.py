"""The two ways a command ends early: the input is bad, or a target was missed."""


class UserError(Exception):
    """Bad input or usage: one sentence that names the culprit as the user gave it, and what to do (exit code 2)."""


class TargetMissed(Exception):
    """The work was done but falls short of what was asked: one sentence with both figures (exit code 1)."""
