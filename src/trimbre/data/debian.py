"""Debian packages unpacked into a folder of the user's own: no root, and no need of the system's package lists."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from trimbre.errors import UserError
from trimbre.files import cache_folder, directory_written_whole, written_whole


def fetch(packages: Sequence[str], *, into: Path | None = None) -> list[Path]:
    """Unpack Debian packages, each into a folder of its own, and return the folders; what is there stays.

    Raises:
        UserError: apt is not on this machine, or does not bring a package.
    """
    home = into or cache_folder() / "debian"
    missing = [package for package in packages if not (home / package).is_dir()]
    if missing:
        for tool in ("apt-get", "dpkg-deb"):
            _require(tool, missing[0])
        apt = _private_apt(home / ".apt")
        _run([*apt, "update"], f"cannot read the package lists for {missing[0]}")
        for package in missing:
            with directory_written_whole(home / package) as beside:
                _run([*apt, "download", package], f"cannot fetch the package {package}", beside)
                archive = next(beside.glob("*.deb"), None)
                if archive is None:
                    raise UserError(f"cannot fetch the package {package}: apt-get brought no .deb file")
                _run(["dpkg-deb", "-x", str(archive), str(beside)], f"cannot unpack the package {package}")
                archive.unlink()
    return [home / package for package in packages]


def _private_apt(home: Path) -> list[str]:
    """An apt-get command whose lists and caches are `home`'s, with the system's sources."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State::Lists": home / "lists",
        "Dir::Cache": home / "cache",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
    }
    return ["apt-get", "-q", *(f"-o{name}={value}" for name, value in settings.items())]


def _require(tool: str, package: str) -> None:
    if shutil.which(tool) is None:
        raise UserError(f"no {tool} on this machine, which would fetch {package}: use a Debian or Ubuntu system")


def _run(command: Sequence[str], complaint: str, folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise UserError(f"{complaint}: {reason}")
    return done.stdout


def fetch_program(package: str) -> tuple[str, dict[str, str]]:
    """Unpack a program with the libraries that it needs; return its path and the environment to run it in.

    Raises:
        UserError: as `fetch`, or the package holds no program of its name.
    """
    if not _needed(package).is_file():
        fetch([package])
        names = _dependencies(package)
        fetch(names)
        with written_whole(_needed(package)) as beside:  # last, so that what it names is there
            beside.write_text("\n".join(names))
    found = fetched_program(package)
    if found is None:
        raise UserError(f"the package {package} holds no program of that name: install {package} yourself")
    return found


def fetched_program(package: str) -> tuple[str, dict[str, str]] | None:
    """What `fetch_program` has unpacked before, if it has; needs neither apt nor the network."""
    home = cache_folder() / "debian"
    if not _needed(package).is_file():
        return None
    folders = [home / package, *(home / name for name in _needed(package).read_text().split())]
    program = next(folders[0].rglob(f"bin/{package}"), None)
    if program is None:
        return None
    libraries = [str(place.parent) for folder in folders for place in folder.rglob("*.so.*")]
    environment = dict(os.environ, LD_LIBRARY_PATH=":".join(dict.fromkeys(libraries)))
    for data in (path for folder in folders for path in folder.rglob("espeak-ng-data") if (path / "phontab").is_file()):
        environment["ESPEAK_DATA_PATH"] = str(data.parent)
    return str(program), environment


def _needed(package: str) -> Path:
    """The note of the packages that a program needs, one a line."""
    return cache_folder() / "debian" / f".{package}.needs"


def _dependencies(package: str) -> list[str]:
    _require("apt-cache", package)
    lists = cache_folder() / "debian" / ".apt"
    command = [
        "apt-cache", f"-oDir::State::Lists={lists / 'lists'}", f"-oDir::Cache={lists / 'cache'}",
        "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks",
        "--no-replaces", "--no-enhances", package,
    ]  # fmt: skip
    lines = _run(command, f"cannot list what {package} needs").splitlines()
    return [line for line in lines if line and line[0].isalnum() and not line.startswith(("libc6", "gcc-", "libgcc"))]
