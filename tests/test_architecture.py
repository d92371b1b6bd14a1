"""The layout holds: imports run downward, names are unique, and only families and heads ask which model this is.

Run as a script, it prints every offender: `python tests/test_architecture.py`.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
SOURCE = ROOT / "src/trimbre"
BESIDE = [ROOT / name for name in ("tests", "recipes", "benchmarks", "examples")]
"""Where further code lies."""

LAYERS = (
    ("errors", "files", "progress", "plan", "config"),
    ("models", "auto"),
    ("data",),
    ("inference",),
    ("costs",),
    ("evaluation",),
    ("training",),
    ("pruning",),
    ("exporting",),
    ("benchmark",),
    ("report",),
    ("runs", "api"),
    ("cli", "__main__"),
)
"""Lowest first: a room imports from itself and from the rooms before it."""

LIGHT = ("trimbre", "trimbre.cli", "trimbre.config", "trimbre.errors", "trimbre.plan")
HEAVY = ("torch", "transformers", "lhotse", "scipy", "librosa")
ASKING = ("models/families/", "models/heads/", "pruning/methods/registry.py")
"""Where models may be asked what they are; the last asks a user's method whether it is one."""
SPEAKING_OF_FLAGS = ("cli/", "report/")
FAMILIES = r"(Whisper|Parakeet|Wav2Vec2|Moonshine|Hubert|WavLM|SEW|Conformer|Speech2Text|Granite|Voxtral)\w*"
LINES = 350

WORDS = (
    r"hears?|heard|hearing",
    r"listen|listens|listening|listeners?",
    r"by lot",
    r"round in circles",
    r"lessons?",
    r"looked[_ ]at",
    r"batches to look at",
    r"seed[-_ ]batches",
    r"narrow audio does",
    r"learning on|learned on|learns on",
    r"chooses otherwise",
    r"made in passing",
)
"""Words that the field does not use for these things."""


@cache
def modules() -> dict[str, ast.Module]:
    """Syntax trees of the package, by path from `src/trimbre`."""
    files = sorted(SOURCE.rglob("*.py"))
    return {str(path.relative_to(SOURCE)): ast.parse(path.read_text(), str(path)) for path in files}


def dotted(path: str) -> str:
    """The name of a module: `models/inputs.py` -> `trimbre.models.inputs`."""
    parts = ("trimbre", *Path(path).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports() -> dict[str, dict[str, int]]:
    """What each module of the package imports of it, anywhere in its file -> the line."""
    paths = {dotted(path): path for path in modules()}
    found: dict[str, dict[str, int]] = {}
    for name, path in paths.items():
        found[name] = {}
        if name == "trimbre":
            continue  # its names are imported when they are asked for
        for node in ast.walk(modules()[path]):
            for target in imported(node, name, is_package=path.endswith("__init__.py")):
                if target.split(".")[0] != "trimbre":
                    continue
                while target not in paths:
                    target = target.rpartition(".")[0]
                if target not in ("trimbre", name):
                    found[name].setdefault(target, node.lineno)
    return found


def imported(node: ast.AST, name: str, *, is_package: bool) -> Iterator[str]:
    """Dotted names that an import statement names, the module's members among them."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = name.split(".")
        if node.level:
            base = base[: len(base) - node.level + is_package]
        start = [*base, node.module] if node.level and node.module else base if node.level else [node.module or ""]
        yield from (".".join([*start, alias.name]) for alias in node.names)


def import_cycles() -> Iterator[str]:
    """Strongly connected modules: each of them imports, through others, itself."""
    graph = imports()

    def path_back(start: str) -> list[str] | None:
        came: dict[str, str] = {}
        waiting = [start]
        while waiting:
            here = waiting.pop(0)
            for target in graph[here]:
                if target == start:
                    path = [start, here]
                    while path[-1] != start:
                        path.append(came[path[-1]])
                    return path[::-1]
                if target not in came:
                    came[target] = here
                    waiting.append(target)
        return None

    seen = set()
    for name in graph:
        if (path := path_back(name)) and frozenset(path) not in seen:
            seen.add(frozenset(path))
            yield " -> ".join(path)


def imports_upward() -> Iterator[str]:
    level = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    for name, targets in imports().items():
        for target, line in targets.items():
            room, other = name.split(".")[1], target.split(".")[1]
            if level[room] < level[other]:
                yield f"{name}:{line} imports {target}"


def rooms_without_a_place() -> Iterator[str]:
    known = {room for rooms in LAYERS for room in rooms} | {"__init__"}
    for path in SOURCE.iterdir():
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and path.stem not in known:
            yield f"{path.name} is in no layer"


def top_floor() -> Iterator[str]:
    found = [path for path in modules() if "/" not in path]
    if len(found) > 10:
        yield f"{len(found)} modules: {', '.join(found)}"


def names_of_the_standard_library() -> Iterator[str]:
    for path in modules():
        for part in Path(path).with_suffix("").parts:
            if part in sys.stdlib_module_names:
                yield path


def classes_of_one_name() -> Iterator[str]:
    homes = defaultdict(list)
    for path, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(path)
    for name, paths in homes.items():
        if len(paths) > 1:
            yield f"{name}: {', '.join(paths)}"


def questions_about_the_model() -> Iterator[str]:
    """`is_encoder_decoder`, `hasattr` and tests of class names or model types outside families and heads."""
    for path, tree in modules().items():
        if path.startswith(ASKING):
            continue
        for node in ast.walk(tree):
            if asks := question(node):
                yield f"{path}:{node.lineno} {asks}"


def question(node: ast.AST) -> str | None:
    match node:
        case ast.Attribute(attr="is_encoder_decoder") | ast.Constant(value="is_encoder_decoder"):
            return "is_encoder_decoder"
        case ast.Call(func=ast.Name(id="hasattr")):
            return ast.unparse(node)
        case ast.Call(func=ast.Name(id="isinstance"), args=[_, kinds]) if re.search(
            rf"\b{FAMILIES}\b", ast.unparse(kinds)
        ):
            return ast.unparse(node)
        case ast.Compare() if re.search(r"__name__|model_type|architectures", ast.unparse(node)):
            return None if "__main__" in ast.unparse(node) else ast.unparse(node)
    return None


def cyclopts_outside_the_command_line() -> Iterator[str]:
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if not path.startswith("cli/") and any(
                name.split(".")[0] == "cyclopts" for name in imported(node, dotted(path), is_package=False)
            ):
                yield f"{path}:{node.lineno}"


def heavy_imports() -> Iterator[str]:
    for name in LIGHT:
        script = f"import {name}, sys; print(*(set(sys.modules) & set({HEAVY!r})))"
        path = os.pathsep.join([str(SOURCE.parent), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
        )
        if done.returncode or done.stdout.strip():
            yield f"import {name}: {(done.stdout or done.stderr).strip()}"


def long_files() -> Iterator[str]:
    for path in modules():
        if (lines := len((SOURCE / path).read_text().splitlines())) > LINES:
            yield f"{path}: {lines} lines"


def undeclared_packages() -> Iterator[str]:
    """Third-party imports whose distribution pyproject.toml does not name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + [one for more in project["optional-dependencies"].values() for one in more]
    declared = {plain(re.match(r"[\w.-]+", one)[0]) for one in asked}
    known = packages_distributions()
    seen = set()
    for path, tree in modules().items():
        for node in ast.walk(tree):
            for name in imported(node, dotted(path), is_package=False):
                package = name.split(".")[0]
                if package == "trimbre" or package in sys.stdlib_module_names or package in seen:
                    continue
                if not declared & {plain(one) for one in known.get(package, [package])}:
                    seen.add(package)
                    yield f"{package}: {path}:{node.lineno}"


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def words_of_our_own() -> Iterator[str]:
    pattern = re.compile(rf"(?<![A-Za-z])({'|'.join(WORDS)})(?![A-Za-z])", re.IGNORECASE)
    pages = [
        path
        for folder in (SOURCE, ROOT / "docs", *BESIDE)
        for ending in ("py", "md", "sh")
        for path in sorted(folder.rglob(f"*.{ending}"))
    ]
    for path in [*pages, *sorted(ROOT.glob("*.md"))]:
        if path.name in ("CHANGELOG.md", Path(__file__).name):  # which say what things were called, and must not be
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for found in pattern.finditer(line):
                yield f"{path.relative_to(ROOT)}:{number} {found[0]!r}"


def pickles() -> Iterator[str]:
    """Data are read and written as safetensors and JSON: a pickle can run code when it is read."""
    for path in (file for room in (SOURCE, *BESIDE) for file in sorted(room.rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if {"pickle", "dill", "joblib", "marshal", "shelve"} & set(names) or called in ("torch.load", "torch.save"):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} {called or names}"


def flags_in_the_library() -> Iterator[str]:
    """Messages that speak of the command line's flags: the library is called from Python too."""
    for path, tree in modules().items():
        if path.startswith(SPEAKING_OF_FLAGS):
            continue
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                said = re.sub(r"`trimbre [^`]*`", "", node.value)  # a whole command is what it is
                for found in re.findall(r"(?<![\w-])--[a-z][a-z-]*", said):
                    yield f"{path}:{node.lineno} {found}"


CHECKS: dict[str, Callable[[], Iterator[str]]] = {
    "import cycles": import_cycles,
    "imports upward": imports_upward,
    "rooms without a layer": rooms_without_a_place,
    "top-floor modules": top_floor,
    "modules named as the standard library's": names_of_the_standard_library,
    "two classes of one name": classes_of_one_name,
    "questions about the model outside families and heads": questions_about_the_model,
    "cyclopts outside the command line": cyclopts_outside_the_command_line,
    "flags in the library": flags_in_the_library,
    "heavy imports": heavy_imports,
    "long files": long_files,
    "undeclared packages": undeclared_packages,
    "pickles": pickles,
    "words that are not the field's": words_of_our_own,
}


@pytest.mark.parametrize("name", CHECKS)
def test_there_are_no(name):
    assert list(CHECKS[name]()) == []


def test_the_checks_see_what_they_look_for():
    """Each question about a model is found where there is one, and none elsewhere."""
    asking = "m.config.is_encoder_decoder; hasattr(m, 'x'); isinstance(m, WhisperModel); type(m).__name__ == 'A'"
    quiet = "isinstance(m, nn.Linear); m.config.hidden_size == 3; __name__ == '__main__'; type(m).__name__"
    for text, count in ((asking, 4), (quiet, 0)):
        assert sum(question(node) is not None for node in ast.walk(ast.parse(text))) == count
    assert list(imported(ast.parse("from ..b import c").body[0], "a.x.y", is_package=False)) == ["a.b.c"]
    assert list(imported(ast.parse("from . import c").body[0], "a.x", is_package=True)) == ["a.x.c"]


if __name__ == "__main__":
    for title, check in CHECKS.items():
        offenders = list(check())
        print(f"{title}: {len(offenders)}", *offenders, sep="\n    ")
