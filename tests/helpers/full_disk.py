"""A disk that is full, without a disk: the kernel refuses what passes a limit on the size of files just the same."""

import resource

from trimbre.cli import run as command

BYTES = 20_000


def run(arguments: list[str]) -> int:
    """Run a command that may write no file of more than 20 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, resource.RLIM_INFINITY))
    return command(arguments)
