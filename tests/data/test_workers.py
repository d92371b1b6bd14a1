"""Batches from worker processes: the same as without, where shared memory is small too, and never a hang."""

import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from helpers.shared_memory import batches, total
from helpers.tones import corpus_of, tone

from trimbre.data.workers import from_workers
from trimbre.errors import OptionError

HELPERS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Twenty tones of a second."""
    clips = [tone(200 + 30 * number, 1.0) for number in range(20)]
    return corpus_of(tmp_path_factory.mktemp("tones"), clips, ["a"] * len(clips))


def test_workers_make_the_same_batches(corpus):
    for mine, theirs in zip(batches(str(corpus), 0), batches(str(corpus), 2), strict=True):
        assert (mine.ids, mine.texts) == (theirs.ids, theirs.texts)
        for name, value in mine.inputs.items():
            assert value.equal(theirs.inputs[name])
        assert mine.labels.equal(theirs.labels)


@pytest.mark.slow
def test_little_shared_memory(corpus):
    """As in a container, by a mount of this process alone: batches pass by, and locks that find no room are said."""
    if os.geteuid() or subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "x", "/dev/shm"]).returncode:
        pytest.skip("it takes root to mount a small shared memory")
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-m", "helpers.shared_memory", str(corpus)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HELPERS), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    works, fails = done.stdout.splitlines()
    assert float(works) == pytest.approx(total(batches(str(corpus), 0)))
    assert fails.startswith("workers=2: processes cannot be started (")


class Dying:
    """Items whose worker is killed at the tenth, as for a lack of memory."""

    def __getitem__(self, item: int) -> int:
        if item == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return item


class Endless:
    """0, 1, ..."""

    def __iter__(self):
        return count()


def test_a_worker_that_is_killed_is_an_error(capfd):
    before = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(OptionError, match=r"^workers=2: one of the processes was killed \(.*: give fewer"):
        list(from_workers(Dying(), Endless(), arrays_of=int, workers=2, seed=0))
    assert signal.getsignal(signal.SIGCHLD) is before
