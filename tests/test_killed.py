"""SIGKILL at any moment costs at most the steps since the last state: the resumed run ends in the same model."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, shaken

from trimbre.models.checkpoint import load_plan, save
from trimbre.models.loading import load

TESTS = Path(__file__).parent


def run(teacher, corpus, out, *kills) -> list[str]:
    """How each process ended, in the words of killed_run.py."""
    arguments = [str(TESTS / "killed_run.py"), str(teacher), str(corpus), str(out), *kills]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    family = FAMILIES["parakeet"]
    torch.manual_seed(0)
    return save(shaken(family.build()), family.processor(), tmp_path_factory.mktemp("killed") / "teacher")


@pytest.fixture(scope="module")
def uninterrupted(teacher, noise_corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted") / "half"
    assert run(teacher, noise_corpus, out, "never") == ["never 0 True"]
    return out


@pytest.mark.parametrize(
    "kills",
    [
        ("step:4", "step:5", "write:2"),  # while gates are learned, while the cut model recovers, and in a write there
        ("write:3", "step:1", "step:8"),  # in the first state's optimizer, before anything more, and past the cut
    ],
)
def test_killed_and_resumed_equals_uninterrupted(teacher, noise_corpus, tmp_path, uninterrupted, kills):
    out = tmp_path / "half"
    ended = [f"{kill} {-signal.SIGKILL} False" for kill in kills]
    assert run(teacher, noise_corpus, out, *kills, "never") == [*ended, "never 0 True"]
    whole, mine = (load(place).model.state_dict() for place in (uninterrupted, out))
    assert whole.keys() == mine.keys()
    assert all(torch.equal(value, mine[name]) for name, value in whole.items())
    assert load_plan(out) == load_plan(uninterrupted)
    assert not out.with_name("half.run").exists()
