"""What is installed with the package: every library that it imports, in the extra where it belongs, and its types."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = {
    "data/hub_sets.py": ("hub",),
    "exporting/": ("export",),
    "benchmark/": ("export",),
    "inference/graph/": ("graph",),
    "report/": ("plots",),
}
"""Extras whose packages a room may import, beside what is always installed."""


def names_of(requirements: list[str]) -> set[str]:
    return {plain(re.match(r"[\w.-]+", one)[0]) for one in requirements}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def third_party_imports() -> Iterator[tuple[str, str]]:
    """Path in the package, and the top-level name that is imported there."""
    source = ROOT / "src/trimbre"
    for path in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            found = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found = [node.module or ""]
            for name in {one.partition(".")[0] for one in found} - {"trimbre"} - set(sys.stdlib_module_names):
                yield str(path.relative_to(source)), name


def test_every_import_is_declared_where_it_belongs():
    always = names_of(PROJECT["project"]["dependencies"])
    extras = {name: names_of(some) for name, some in PROJECT["project"]["optional-dependencies"].items()}
    distributions = packages_distributions()
    undeclared = []
    for path, name in third_party_imports():
        allowed = always.union(*(extras[one] for room, some in EXTRAS.items() if path.startswith(room) for one in some))
        if not allowed & {plain(one) for one in distributions.get(name, [name])}:
            undeclared.append(f"{path}: {name}")
    assert undeclared == []


def test_every_dependency_that_is_declared_is_imported():
    """Apart from those that transformers needs for our families."""
    distributions = packages_distributions()
    imported = {plain(one) for _, name in third_party_imports() for one in distributions.get(name, [name])}
    assert names_of(PROJECT["project"]["dependencies"]) - imported == {"librosa"}


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "src/trimbre/py.typed").is_file()
    assert PROJECT["tool"]["setuptools"]["package-data"]["trimbre"] == ["py.typed"]


@pytest.mark.parametrize("extra", sorted(PROJECT["project"]["optional-dependencies"]))
def test_extras_name_extras_that_exist(extra):
    known = PROJECT["project"]["optional-dependencies"]
    for one in known[extra]:
        for name in re.findall(r"trimbre\[(.*)\]", one):
            assert set(name.split(",")) <= set(known)
