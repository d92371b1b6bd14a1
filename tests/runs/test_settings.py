"""What a run notes of itself."""

import sys

import pytest

from trimbre.runs.settings import command_of


@pytest.mark.once
@pytest.mark.parametrize(
    ("argv", "noted"),
    [
        (["/bin/trimbre", "prune", "my model", "--out", "half"], "trimbre prune 'my model' --out half"),
        (["/lib/trimbre/__main__.py", "prune", "m"], "trimbre prune m"),
        (["/lib/pytest/__main__.py", "-n", "2"], "trimbre.prune(...)"),
        (["script.py", "prune"], "trimbre.prune(...)"),
    ],
)
def test_the_command_that_was_typed_can_be_typed_again(monkeypatch, argv, noted):
    monkeypatch.setattr(sys, "argv", argv)
    assert command_of("prune") == noted
