"""How far a long stage is: a bar with figures and the time left on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

LINE_EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""


class Bar(Protocol):
    """Takes the step that was just done and the figures to show beside it."""

    def __call__(self, step: int, **figures: float) -> None: ...


@contextmanager
def progress(stage: str, total: int, *, shown: bool = True) -> Iterator[Bar]:
    """Show the progress of `stage`, on stderr, unless it's not to be `shown`; figures stay until given anew."""
    if not shown:
        yield lambda step, **figures: None
        return
    latest: dict[str, float] = {}
    if sys.stderr.isatty():
        # On a narrow terminal the figures take several lines, and nothing else is squeezed.
        columns = (
            TextColumn("[bold]{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=12, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[figures]}", table_column=Column(ratio=1)),
        )
        with Progress(*columns, console=Console(stderr=True), expand=True) as display:
            task = display.add_task(stage, total=total, figures="")

            def update(step: int, **figures: float) -> None:
                latest.update(figures)
                display.update(task, completed=step, figures=_words(latest))

            yield update
        return

    began = last = time.monotonic()
    first: int | None = None

    def line(step: int, **figures: float) -> None:
        nonlocal last, first
        first = step - 1 if first is None else first
        latest.update(figures)
        now = time.monotonic()
        if now - last >= LINE_EVERY or (step == total and (latest or now - began >= LINE_EVERY)):
            last = now
            left = (now - began) / max(step - first, 1) * (total - step)
            when = f"{left / 60:.1f} min left" if step < total else f"took {(now - began) / 60:.1f} min"
            print(f"{stage} {step}/{total}  {_words(latest)}  {when}", file=sys.stderr, flush=True)

    yield line


def _words(figures: dict[str, float]) -> str:
    shares = ("removed", "target", "wer")
    return "  ".join(
        f"{name} {100 * value:.1f} %" if name in shares else f"{name} {value:.3g}" for name, value in figures.items()
    )
