"""Progress on a terminal and in a log: where a stage is and what is left, with nothing squeezed out."""

import io
import re
import threading

import pytest

from trimbre import progress as module
from trimbre.progress import Position, progress, span, tracked


class Screen(io.StringIO):
    """A stderr that is a terminal or not, and that tells when so many lines are there."""

    def __init__(self, *, terminal: bool = False, lines: int = 1):
        super().__init__()
        self.terminal, self.wanted, self.enough = terminal, lines, threading.Event()

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().count("\n") >= self.wanted:
            self.enough.set()
        return written


@pytest.fixture
def log(monkeypatch):
    """A log that gets lines often."""

    def log(*, first: float = 0.01, every: float = 0.01, lines: int = 1) -> Screen:
        screen = Screen(lines=lines)
        monkeypatch.setattr("sys.stderr", screen)
        monkeypatch.setattr(module, "FIRST_LINE", first)
        monkeypatch.setattr(module, "LINE_EVERY", every)
        return screen

    return log


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of so many columns."""

    def terminal(columns: int, *, first: float) -> Screen:
        screen = Screen(terminal=True)
        monkeypatch.setattr("sys.stderr", screen)
        monkeypatch.setattr(module, "FIRST_LINE", first)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        return screen

    return terminal


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_count_time_and_every_figure_fit_on_a_narrow_terminal(terminal, columns):
    screen = terminal(columns, first=0.0)
    with progress("recovery", 400) as show:
        show(1, loss=2.0, wer=0.5)
        show(2, loss=1.2345, posterior=0.25, layer=0.125, removed=0.5, target=0.5)
        with progress("validation", 60) as inner:
            inner(30)
        show(400, loss=1.0)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    last = " ".join(plain.rpartition("recovery ")[2].split())
    for wanted in ("400/400", "took 0 s", "loss 1", "wer 50.0 %", "posterior 0.25", "layer 0.125", "removed 50.0 %"):
        assert wanted in last
    assert "…" not in plain
    assert "validation" not in last


def test_a_bar_of_a_moment_is_taken_away_and_a_longer_one_stays(terminal):
    up = "\x1b[1A\x1b[2K"  # the cursor goes up and clears the line
    for first, left in ((1e9, False), (0.0, True)):
        screen = terminal(80, first=first)
        with progress("scores", 4) as show:
            show(4)
        assert screen.getvalue().endswith(up) != left


def test_the_time_left_is_that_of_the_steps_left_at_the_rate_so_far():
    position = Position("scores", 10, now=100.0)
    assert position.time(103.0) == "3 s so far"  # nothing to go by yet
    position.move(1, {}, now=120.0)
    assert position.time(120.0) == "3.0 min left"
    assert position.time(150.0) == "2.5 min left"  # while the next item is under way
    assert position.time(120.0 + 1000) == "0 s left"
    position.move(10, {}, now=300.0)
    assert position.time(300.0) == "took 3.3 min"


def test_steps_of_an_earlier_sitting_tell_nothing_about_the_rate():
    position = Position("recovery", 1000, done=900, now=0.0)
    assert position.time(2.0) == "2 s so far"
    position.move(901, {}, now=2.0)
    assert position.time(2.0) == "3.3 min left"


def test_a_stage_of_unknown_length_counts_and_says_how_long_it_has_been_going():
    position = Position("reading", None, now=0.0)
    position.move(7000, {}, now=60.0)
    assert position.line(200.0) == "reading 7000  3.3 min so far"
    position.ended = True
    assert position.line(200.0) == "reading 7000  took 3.3 min"


def test_a_unit_is_said_with_the_count():
    position = Position("validation", 556, unit="s of audio", now=0.0)
    position.move(228, {}, now=4.0)
    assert position.line(4.0) == "validation 228/556 s of audio  6 s left"


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "0 s"), (89, "89 s"), (91, "1.5 min"), (2 * 3600, "2.0 h")])
def test_times_have_the_unit_that_suits_them(seconds, words):
    assert span(seconds) == words


def test_a_figure_stays_until_it_is_given_anew():
    position = Position("recovery", 400, now=0.0)
    position.move(1, {"loss": 2.0, "wer": 0.5}, now=1.0)
    position.move(2, {"loss": 1.2345}, now=2.0)
    assert position.line(2.0) == "recovery 2/400  loss 1.23  wer 50.0 %  6.6 min left"


def test_one_long_item_is_no_silence(log):
    screen = log(lines=3)
    with progress("refit", 2):
        assert screen.enough.wait(20)
    lines = screen.getvalue().splitlines()
    assert all(line.startswith("refit 0/2  ") for line in lines)
    assert lines[0].endswith("so far")
    assert "took" in lines[-1]


def test_a_stage_of_a_moment_leaves_no_line(log):
    screen = log(first=1e9, every=1e9)
    with progress("evaluation", 60) as show:
        show(30, wer=0.5)
        show(60)
    assert screen.getvalue() == ""


def test_lines_come_seldom_but_the_end_is_written(log):
    screen = log(every=1e9)
    with progress("recovery", 400) as show:
        assert screen.enough.wait(20)
        for step in range(400):
            show(step + 1)
    first, last = screen.getvalue().splitlines()
    assert first.startswith("recovery 0/400")
    assert last.startswith("recovery 400/400  took")


def test_a_stage_that_fails_does_not_write_that_it_ended(log):
    screen = log(every=1e9)

    def fail():
        assert screen.enough.wait(20)
        raise KeyError

    with pytest.raises(KeyError), progress("recovery", 400):
        fail()
    assert "took" not in screen.getvalue()
    assert not [thread for thread in threading.enumerate() if "progress" in thread.name]


def test_a_stage_within_another_writes_in_its_place(log):
    screen = log()
    with progress("recovery", 4) as outer:
        outer(2)
        with progress("validation", 60) as inner:
            inner(6)
            screen.wanted = screen.getvalue().count("\n") + 4
            screen.enough.clear()
            assert screen.enough.wait(20)
            during = screen.getvalue().splitlines()[-3:]
        screen.wanted = screen.getvalue().count("\n") + 2
        screen.enough.clear()
        assert screen.enough.wait(20)
    assert all(line.startswith("validation 6/60") for line in during)
    assert screen.getvalue().splitlines()[-2].startswith("recovery 2/4")


def test_only_the_first_of_several_processes_shows_it(log, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    screen = log()
    with progress("scores", 4) as show:
        show(1)
        assert not [t for t in threading.enumerate() if "progress" in t.name]
    monkeypatch.setenv("RANK", "0")
    with progress("scores", 4):
        assert screen.enough.wait(20)


def test_items_are_tracked_as_they_are_used(log):
    screen = log(lines=2)
    seen = []
    for item in tracked([5, 6, 7], "scores"):
        seen.append(item)
        if item == 6:
            assert screen.enough.wait(20)
    assert seen == [5, 6, 7]
    assert "scores 1/3" in screen.getvalue()
    assert list(tracked(iter("ab"), "reading")) == ["a", "b"]
