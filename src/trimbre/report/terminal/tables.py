"""The look of all tables: few lines, little padding, numbers to the right."""

from collections.abc import Iterable

from rich import box
from rich.table import Table


def new_table(
    headings: Iterable[str], *, title: str | None = None, caption: str | None = None, left: Iterable[str] = ()
) -> Table:
    """A table whose columns are right-aligned, except the first and those named in `left`; these alone may wrap."""
    table = Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    left = set(left)
    for position, heading in enumerate(headings):
        text = position == 0 or heading in left
        table.add_column(heading, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    return table


def stacked(rate: str) -> str:
    """A figure over its interval, which takes half of the width: `4.20 [3.61, 4.83]` on two lines."""
    return rate.replace(" [", "\n[", 1)
