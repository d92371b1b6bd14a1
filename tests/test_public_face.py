"""What `import trimbre` offers: everything that is named is there and explained, and comes when it's asked for."""

import inspect
import subprocess
import sys

import pytest

import trimbre


@pytest.mark.parametrize("name", trimbre.__all__)
def test_every_public_name_is_there_and_explained(name):
    thing = getattr(trimbre, name)
    assert thing.__name__ == name
    assert inspect.getdoc(thing)


def test_the_public_names_are_the_ones_that_are_announced():
    assert set(trimbre.__all__) == set(trimbre._HOME)
    with pytest.raises(AttributeError, match="nonsense"):
        trimbre.nonsense  # noqa: B018
    assert not hasattr(trimbre, "__nonsense__")  # what copying and inspecting ask for


def test_importing_trimbre_imports_nothing_heavy():
    script = (
        "import sys, trimbre\n"
        "print(sorted({'torch', 'transformers', 'lhotse', 'numpy', 'accelerate', 'cyclopts'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
