"""Progress of long stages on stderr: a bar on a terminal, a line now and then in a log.

Both say how far the stage is, its latest figures, and the time left. They go on doing so while one item takes minutes.
A stage that ends within `FIRST_LINE` seconds leaves no line in a log.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

FIRST_LINE = 3.0
"""Seconds after which a stage gets its first line in a log."""
LINE_EVERY = 30.0
"""Seconds between two lines at first; they grow to a twentieth of the time that the stage has taken."""
LINE_EVERY_AT_MOST = 300.0
PERCENT = ("removed", "target", "wer")
"""Figures that are shares, shown in percent."""

Item = TypeVar("Item")


class Bar(Protocol):
    """Takes the number of steps done so far, and figures to show beside it until they are given anew."""

    def __call__(self, step: int, **figures: float) -> None: ...


class Position:
    """Where a stage is: steps done, latest figures, and the time that it took and has left.

    Args:
        total: number of steps; None where it is unknown.
        done: steps that an earlier sitting did, which tell nothing about the time left.
        unit: of a step, such as `s of audio`.
        now: time of the start, in seconds of any clock.
    """

    def __init__(self, stage: str, total: int | None, *, done: int = 0, unit: str = "", now: float):
        self.stage, self.total, self.unit = stage, total, unit
        self.first = self.done = done
        self.began = self.moved = now
        self.ended = False
        self.figures: dict[str, float] = {}

    def move(self, step: int, figures: dict[str, float], *, now: float) -> None:
        """Take note of a step that was done at the time `now`."""
        if step != self.done:
            self.done, self.moved = step, now
        self.figures = self.figures | figures  # a new one: another thread may be reading the old

    @property
    def count(self) -> str:
        """Steps done, of how many."""
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        return f"{count} {self.unit}".rstrip()

    def time(self, now: float) -> str:
        """Time left; without an estimate the time so far, and at the end the whole time."""
        so_far = now - self.began
        if self.ended or (self.total is not None and self.done >= self.total):
            return f"took {span(so_far)}"
        if self.total is None or self.done <= self.first:
            return f"{span(so_far)} so far"
        each = (self.moved - self.began) / (self.done - self.first)
        return f"{span(max(0.0, each * (self.total - self.done) - (now - self.moved)))} left"

    def words(self) -> str:
        """The figures."""
        return "  ".join(
            f"{name} {100 * value:.1f} %" if name in PERCENT else f"{name} {value:.3g}"
            for name, value in self.figures.items()
        )

    def line(self, now: float) -> str:
        """All of it in a line for a log."""
        return "  ".join(part for part in (f"{self.stage} {self.count}", self.words(), self.time(now)) if part)


def span(seconds: float) -> str:
    """A length of time in the unit that suits it: `42 s`, `3.5 min`, `2.1 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress(
    stage: str, total: int | None, *, done: int = 0, unit: str = "", shown: bool | None = None
) -> Iterator[Bar]:
    """Show the progress of `stage` on stderr while the block runs.

    A stage within another one gets a bar of its own below it, or lines in its place. What ends within `FIRST_LINE`
    seconds leaves nothing behind.

    Args:
        total: number of steps; None where it is unknown.
        done: steps that an earlier sitting has done.
        unit: of a step, such as `s of audio`.
        shown: whether to show it at all; None shows it on the first of several processes (torchrun's `RANK`).
    """
    if shown is None:
        shown = os.environ.get("RANK", "0") == "0"
    position = Position(stage, total, done=done, unit=unit, now=time.monotonic())

    def show(step: int, **figures: float) -> None:
        position.move(step, figures, now=time.monotonic())

    if not shown:
        yield show
        return
    with (_bar if sys.stderr.isatty() else _lines)(position):
        yield show


def tracked(
    items: Iterable[Item], stage: str, total: int | None = None, *, shown: bool | None = None
) -> Iterator[Item]:
    """Yield `items`, showing how many of them are done; `total` is their number, where they are no sequence."""
    if total is None and isinstance(items, Sequence):
        total = len(items)
    with progress(stage, total, shown=shown) as show:
        for number, item in enumerate(items, start=1):
            yield item
            show(number)


class _Cell(ProgressColumn):
    """A cell that shows what a function makes of the position."""

    def __init__(self, make: Callable[[Position], RenderableType], **column: Any):
        super().__init__(table_column=Column(**column))
        self.make = make

    def render(self, task: Task) -> RenderableType:
        """The cell of a stage, asked for ten times a second."""
        return self.make(task.fields["position"])


def _drawn(position: Position) -> ProgressBar:
    now = time.monotonic()
    return ProgressBar(position.total, position.done, width=12, pulse=position.total is None, animation_time=now)


_displays: ContextVar[tuple[Progress, ...]] = ContextVar("displays", default=())
"""The display on the terminal that stages within a stage add their bars to."""
_writers: ContextVar[tuple["_Writer", ...]] = ContextVar("writers", default=())
"""The stages under way that write lines, the innermost last."""


@contextmanager
def _bar(position: Position) -> Iterator[None]:
    if outer := _displays.get():
        task = outer[0].add_task("", position=position)
        try:
            yield
        finally:
            outer[0].remove_task(task)
        return
    # On a narrow terminal the figures take several lines, and nothing else is squeezed.
    display = Progress(
        _Cell(lambda position: Text(position.stage, style="bold"), no_wrap=True),
        _Cell(_drawn, no_wrap=True),
        _Cell(lambda position: Text(position.count, style="green"), no_wrap=True),
        _Cell(lambda position: Text(position.time(time.monotonic()), style="cyan"), no_wrap=True),
        _Cell(lambda position: Text(position.words()), ratio=1),
        console=Console(stderr=True),
        expand=True,
    )
    with display:
        display.add_task("", position=position)
        _displays.set((display,))
        try:
            yield
            position.ended = True
            display.live.transient = time.monotonic() - position.began < FIRST_LINE
        finally:
            _displays.set(())


@contextmanager
def _lines(position: Position) -> Iterator[None]:
    outer = _writers.get()
    writer = _Writer(position, first=LINE_EVERY if outer else FIRST_LINE)
    _writers.set((*outer, writer))
    for one in outer:
        one.silent.set()
    writer.start()
    try:
        yield
    finally:
        writer.ended.set()
        writer.join()
        _writers.set(outer)
        if outer:
            outer[-1].silent.clear()
    position.ended = True
    now = time.monotonic()
    if now - position.began >= writer.first:
        writer.write(position.line(now))


class _Writer(threading.Thread):
    """Writes where a stage is, at times of its own: one item of it may take minutes."""

    def __init__(self, position: Position, *, first: float):
        super().__init__(name=f"progress of {position.stage}", daemon=True)
        self.position, self.first = position, first
        self.silent, self.ended = threading.Event(), threading.Event()

    def run(self) -> None:
        """Write a line after `first` seconds and then every so many, until the stage has ended."""
        wait = self.first
        while not self.ended.wait(wait):
            now = time.monotonic()
            if not self.silent.is_set():
                self.write(self.position.line(now))
            wait = min(LINE_EVERY_AT_MOST, max(LINE_EVERY, (now - self.position.began) / 20))

    def write(self, line: str) -> None:
        """Write one line."""
        print(line, file=sys.stderr, flush=True)
