"""Atomic writes: files and directories are written beside their place and renamed into it when complete."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from trimbre.errors import OptionError, UserError

NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up", errno.EFBIG: "it grows too large"}
"""Errors of the system that mean a lack of space, in words."""


class NoRoom(UserError):
    """A file or directory that could not be written for lack of space."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"cannot write {path}: {reason}; make room and try again")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with its own arguments, so that it survives the way from another process."""
        return type(self), (self.path, self.reason)


def cache_folder() -> Path:
    """Folder for downloads and measurements: `$TRIMBRE_CACHE`, or `trimbre` in the user's cache folder."""
    if given := os.environ.get("TRIMBRE_CACHE"):
        return Path(given).absolute()  # apt takes relative folders to be below its own
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "trimbre"


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file to; it takes the place of `path` only if the block succeeds.

    Raises:
        NoRoom: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _room_for(path):
            yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def directory_written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a new directory beside `path`; it replaces `path` and what was there only if the block succeeds.

    Raises:
        NoRoom: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        with _room_for(path):
            yield beside
        beside.chmod(0o755)
        if path.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            os.replace(path, retired / path.name)
            try:
                os.replace(beside, path)
            except BaseException:
                os.replace(retired / path.name, path)
                raise
            finally:
                shutil.rmtree(retired)
        else:
            os.replace(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def refuse_existing(out: str | Path, *, mark: str | None = None) -> None:
    """Raise OptionError where a directory written to `out` would replace something.

    Args:
        mark: a file that marks an earlier output of the same kind, which may be replaced.
    """
    out = Path(out)
    if out.exists() and not (mark is not None and (out / mark).is_file()):
        raise OptionError("out", str(out), "it already exists: name another folder or remove it")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with written_whole(path) as beside:
        beside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """Turn the system's errors for a lack of space into a NoRoom that names `path`, of which what failed is a part."""
    try:
        yield
    except NoRoom as error:
        raise NoRoom(path, error.reason) from error
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise NoRoom(path, NO_ROOM[error.errno]) from error
    except SafetensorError as error:  # it wraps the system's error in its own
        raise NoRoom(path, str(error)) from error
