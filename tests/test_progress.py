"""Progress, on a terminal and elsewhere: what matters is never squeezed out."""

import io
import re

import pytest

from trimbre import progress as shown_by
from trimbre.progress import progress


class Screen(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def shown(monkeypatch, *, terminal: bool, columns: int = 80, line_every: float = 0.0) -> str:
    screen = Screen(terminal)
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(shown_by, "LINE_EVERY", line_every)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    with progress("learn", 400) as show:
        show(1, loss=2.0, wer=0.5)
        show(2, loss=1.2345, posterior=0.25, layer=0.125, removed=0.5, target=0.5)
        show(400, loss=1.0)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_step_time_and_every_figure_fit_on_a_narrow_terminal(monkeypatch, columns):
    last = shown(monkeypatch, terminal=True, columns=columns).rpartition("learn ")[2]
    words = " ".join(last.split())
    for wanted in ("400/400", "loss 1", "wer 50.0 %", "posterior 0.25", "layer 0.125", "removed 50.0 %"):
        assert wanted in words
    assert re.search(r"\d:\d\d:\d\d", words)
    assert "…" not in words


def test_elsewhere_lines_say_the_same_and_the_last_one_how_long_it_took(monkeypatch):
    lines = shown(monkeypatch, terminal=False).splitlines()
    assert lines[0].startswith("learn 1/400  loss 2  wer 50.0 %  ")
    assert lines[1].startswith("learn 2/400  loss 1.23  wer 50.0 %  posterior 0.25")  # what was said once stays
    assert lines[1].endswith("min left")
    assert re.search(r"took \d+\.\d min$", lines[-1])
    assert len(lines) == 3


def test_lines_come_seldom_but_the_end_is_said(monkeypatch):
    lines = shown(monkeypatch, terminal=False, line_every=1e9).splitlines()
    assert [line.split()[1] for line in lines] == ["400/400"]


def test_what_has_no_figures_and_took_a_moment_leaves_no_line(monkeypatch):
    screen = Screen(terminal=False)
    monkeypatch.setattr("sys.stderr", screen)
    for line_every, lines in ((1e9, 0), (0.0, 2)):
        monkeypatch.setattr(shown_by, "LINE_EVERY", line_every)
        with progress("seconds of dev", 60) as show:
            show(30)
            show(60)
        assert len(screen.getvalue().splitlines()) == lines
