"""What arrives where another process sends something."""

from multiprocessing import Pipe
from typing import TypeVar

T = TypeVar("T")


def through_a_pipe(value: T) -> T:
    """What a process receives that is sent a value; short ones, which the pipe itself holds."""
    receiver, sender = Pipe(duplex=False)
    with receiver, sender:
        sender.send(value)
        received: T = receiver.recv()
    return received
