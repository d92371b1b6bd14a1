"""Debian packages unpacked into the user's cache: no root needed, and the system's package lists stay as they are."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trimbre.errors import UserError
from trimbre.files import cache_folder, directory_written_whole, written_whole

SECONDS = 60
"""After which a program that should have answered is taken to hang."""


@dataclass(frozen=True)
class Program:
    """An executable and the environment to run it in."""

    path: str
    environment: Mapping[str, str]

    def run(self, arguments: Sequence[str], text: str = "") -> bytes:
        """Run it with `text` as its input and return its output.

        Raises:
            UserError: it fails, with the last line of what it said, such as the loader's on a missing library.
        """
        name = Path(self.path).name
        try:
            done = subprocess.run(
                [self.path, *arguments],
                input=text.encode(),
                env=dict(self.environment),
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
        except OSError as error:
            raise UserError(f"{name} cannot be started: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{name} did not end within {SECONDS} s") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise UserError(
                f"{name} ended with exit status {done.returncode}: {said[-1] if said else 'no reason given'}"
            )
        return done.stdout


def fetch(packages: Sequence[str]) -> list[Path]:
    """Unpack Debian packages, each into a folder of its own, and return the folders; what is there stays.

    Raises:
        UserError: apt is not on this machine, or does not bring a package.
    """
    home = _home()
    missing = [package for package in packages if not (home / package).is_dir()]
    if missing:
        for tool in ("apt-get", "dpkg-deb"):
            _require(tool, missing[0])
        apt = ["apt-get", "-q", *_private_state(home)]
        _run([*apt, "update"], f"cannot read the package lists for {missing[0]}")
        with tempfile.TemporaryDirectory(prefix=".archives-", dir=home) as archives:
            _run([*apt, "download", *missing], f"cannot fetch {_named(missing)}", Path(archives))
            for package in missing:
                archive = next(Path(archives).glob(f"{package}_*.deb"), None)
                if archive is None:
                    raise UserError(f"cannot fetch the package {package}: apt-get brought no .deb file")
                with directory_written_whole(home / package) as beside:
                    _run(["dpkg-deb", "-x", str(archive), str(beside)], f"cannot unpack the package {package}")
    return [home / package for package in packages]


def fetch_program(package: str, *, trial: Sequence[str]) -> Program:
    """Unpack a program with the libraries that it needs, and run it once, so that it can be relied on.

    Args:
        trial: arguments with which it ends at once and without an error.

    Raises:
        UserError: as `fetch`; the package holds no program of its name; or the program does not run, with what is
            missing.
    """
    if (found := fetched_program(package)) is not None:
        return found
    fetch([package])
    needed = _dependencies(package)
    fetch(needed)
    program = _unpacked(package, needed)
    if program is None:
        raise UserError(f"the package {package} holds no program of that name: install {package} yourself")
    try:
        program.run(trial)
    except UserError as error:
        raise UserError(f"{package} was fetched but does not run: {error}; install {package} yourself") from error
    with written_whole(_note(package)) as beside:  # last: what is noted was there and ran
        beside.write_text("\n".join(needed))
    return program


def fetched_program(package: str) -> Program | None:
    """What `fetch_program` has unpacked before, if it has; needs neither apt nor the network."""
    note = _note(package)
    return _unpacked(package, note.read_text().split()) if note.is_file() else None


def _unpacked(package: str, needed: Sequence[str]) -> Program | None:
    """A program among unpacked packages, with every folder of theirs that holds shared objects on its library path."""
    folders = [_home() / name for name in (package, *needed)]
    path = next(folders[0].rglob(f"bin/{package}"), None)
    if path is None:
        return None
    libraries = dict.fromkeys(str(place) for folder in folders for place in _library_folders(folder))
    return Program(str(path), dict(os.environ, LD_LIBRARY_PATH=":".join(libraries)))


def _library_folders(root: Path) -> Iterator[Path]:
    """Folders below `root` with shared objects: `libc.so.6` as well as `libpulsecommon-16.1.so`."""
    for place, _, files in os.walk(root):
        if any(re.search(r"\.so(\.|$)", name) for name in files):
            yield Path(place)


def _home() -> Path:
    return cache_folder() / "debian"


def _note(package: str) -> Path:
    """The file that names the packages that a program needs, one a line."""
    return _home() / f".{package}.needs"


def _private_state(home: Path) -> list[str]:
    """Options with which apt keeps its lists and caches in `home`; the sources are the system's."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (home / ".apt" / folder).mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State::Lists": home / ".apt/lists",
        "Dir::Cache": home / ".apt/cache",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
    }
    return [f"-o{name}={value}" for name, value in settings.items()]


def _dependencies(package: str) -> list[str]:
    """Every package that `package` needs, but for the C library: another system's would break the program."""
    _require("apt-cache", package)
    kinds = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"]
    command = ["apt-cache", *_private_state(_home()), "depends", "--recurse", *(f"--no-{kind}" for kind in kinds)]
    lines = _run([*command, package], f"cannot list what {package} needs").splitlines()
    names = [line for line in lines if line and line[0].isalnum()]
    return [name for name in names if name != package and not name.startswith(("libc6", "gcc-", "libgcc"))]


def _named(packages: Sequence[str]) -> str:
    names = ", ".join(packages[:3]) + (", ..." if len(packages) > 3 else "")
    return f"the package {names}" if len(packages) == 1 else f"the packages {names}"


def _require(tool: str, package: str) -> None:
    if shutil.which(tool) is None:
        raise UserError(f"no {tool} on this machine, which would fetch {package}: use a Debian or Ubuntu system")


def _run(command: Sequence[str], complaint: str, folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise UserError(f"{complaint}: {reason}")
    return done.stdout
