"""Debian packages unpacked into a folder of the user's own: no root, and no need of the system's package lists."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from trimbre.errors import UserError
from trimbre.files import directory_written_whole


def cache_folder() -> Path:
    """Where Trimbre keeps what it has fetched: `$TRIMBRE_CACHE`, or `trimbre` in the user's cache folder."""
    if given := os.environ.get("TRIMBRE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "trimbre"


def fetch(packages: Sequence[str], *, into: Path | None = None) -> list[Path]:
    """Unpack Debian packages, each into a folder of its own, and return the folders; what is there stays.

    Raises:
        UserError: apt is not on this machine, or does not bring a package.
    """
    home = into or cache_folder() / "debian"
    missing = [package for package in packages if not (home / package).is_dir()]
    if missing:
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise UserError(
                    f"no {tool} on this machine, which would fetch {missing[0]}: use a Debian or Ubuntu system"
                )
        apt = _private_apt(home / ".apt")
        _run([*apt, "update"], f"cannot read the package lists for {missing[0]}")
        for package in missing:
            with directory_written_whole(home / package) as beside:
                _run([*apt, "download", package], f"cannot fetch the package {package}", beside)
                (archive,) = beside.glob("*.deb")
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


def _run(command: Sequence[str], complaint: str, folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise UserError(f"{complaint}: {reason}")


def fetch_program(package: str) -> tuple[str, dict[str, str]]:
    """Unpack a program with the libraries that it needs; return its path and the environment to run it in.

    Raises:
        UserError: as `fetch`.
    """
    home = cache_folder() / "debian"
    if not (home / package).is_dir():
        fetch([package])
    needed = subprocess.run(
        [
            "apt-cache", f"-oDir::State::Lists={home / '.apt/lists'}", f"-oDir::Cache={home / '.apt/cache'}",
            "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks",
            "--no-replaces", "--no-enhances", package,
        ],
        capture_output=True, text=True, check=False,
    ).stdout.splitlines()  # fmt: skip
    names = [line for line in needed if line and line[0].isalnum() and not line.startswith(("libc6", "gcc-", "libgcc"))]
    folders = fetch(names)
    libraries = [str(place.parent) for folder in folders for place in folder.rglob("*.so.*")]
    program = next(path for path in (home / package).rglob(f"bin/{package}"))
    environment = dict(os.environ, LD_LIBRARY_PATH=":".join(dict.fromkeys(libraries)))
    for data in (path for folder in folders for path in folder.rglob("espeak-ng-data") if (path / "phontab").is_file()):
        environment["ESPEAK_DATA_PATH"] = str(data.parent)
    return str(program), environment
