"""Standard error without what a library of C writes to it past Python, as libmpg123 does of damaged MP3s."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2


class _Redirection:
    """The file descriptor of standard error, led to nowhere while any thread wants it so."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.kept: int | None = None

    def begin(self) -> None:
        with self.lock:
            self.users += 1
            if self.users > 1:
                return
            try:
                self.kept = os.dup(STDERR)
            except OSError:  # it is closed
                return
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, STDERR)
            os.close(nowhere)

    def end(self) -> None:
        with self.lock:
            self.users -= 1
            if not self.users and self.kept is not None:
                os.dup2(self.kept, STDERR)
                os.close(self.kept)
                self.kept = None


_REDIRECTION = _Redirection()


@contextmanager
def silent_stderr(silent: bool = True) -> Iterator[None]:
    """Drop what is written to the file descriptor of standard error, by any thread: for single calls of a decoder."""
    if not silent:
        yield
        return
    _REDIRECTION.begin()
    try:
        yield
    finally:
        _REDIRECTION.end()
