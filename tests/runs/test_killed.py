"""SIGKILL at any moment costs at most the steps since the last state: the resumed run ends in the same model."""

import signal

import pytest
import torch
from helpers.families import FAMILIES, shaken
from helpers.runs import assert_equal_weights

from trimbre.models.checkpoint import load_plan, save

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    family = FAMILIES["parakeet"]
    torch.manual_seed(0)
    return save(shaken(family.build()), family.processor(), tmp_path_factory.mktemp("killed") / "teacher")


@pytest.fixture(scope="module")
def killed(forks, teacher, noise_corpus):
    """Runs until it is killed, or to the end, and so on -> how the processes ended, and whether there was a result."""

    def killed(out, kills):
        ended = []
        for number, kill in enumerate(kills):
            (done,) = forks.run("helpers.killed:run", str(teacher), str(noise_corpus), str(out), kill, number > 0)
            ended.append((done.code, out.exists()))
        return ended

    return killed


@pytest.fixture(scope="module")
def uninterrupted(killed, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted") / "half"
    assert killed(out, ["never"]) == [(0, True)]
    return out


@pytest.mark.parametrize(
    "kills",
    [
        ("step:4", "step:5", "write:2"),  # while gates are learned, while the cut model recovers, and in a write there
        ("write:3", "step:1", "step:8"),  # in the first state's optimizer, before anything more, and past the cut
    ],
)
def test_killed_and_resumed_equals_uninterrupted(killed, tmp_path, uninterrupted, kills):
    out = tmp_path / "half"
    assert killed(out, [*kills, "never"]) == [*[(-signal.SIGKILL, False)] * len(kills), (0, True)]
    assert_equal_weights(uninterrupted, out)
    assert load_plan(out) == load_plan(uninterrupted)
    assert not out.with_name("half.run").exists()
