"""How a command ends early."""


class UserError(Exception):
    """Bad input or usage: one sentence that names the culprit as the user gave it, and what to do (exit code 2)."""
