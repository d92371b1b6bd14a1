"""Writing that never leaves half a file: everything is written beside its place and renamed into it."""

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

from trimbre.errors import UserError

NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up", errno.EFBIG: "it grows too large"}


class NoRoom(UserError):
    """A file or directory that could not be written."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"cannot write {path}: {reason}; make room and give the same command")
        self.reason = reason


def cache_folder() -> Path:
    """Where Trimbre keeps what it fetched or measured: `$TRIMBRE_CACHE`, or `trimbre` in the user's cache folder."""
    if given := os.environ.get("TRIMBRE_CACHE"):
        return Path(given).absolute()  # apt takes relative folders to be below its own
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "trimbre"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file to; it takes the place of `path` only if the block succeeds.

    Raises:
        NoRoom: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _room_for(path):
            yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def directory_written_whole(path: Path) -> Iterator[Path]:
    """Yield a new directory beside `path`; it takes the place of `path` (and of what stood there) on success.

    Raises:
        NoRoom: the disk is full.
    """
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


def refuse_existing(out: Path, *, mark: str | None = None) -> None:
    """Raise UserError where something stands at `out` that a directory written there would take the place of.

    Args:
        mark: a file by which an earlier output of the same kind is known, whose place may be taken.
    """
    if out.exists() and not (mark is not None and (out / mark).is_file()):
        raise UserError(f"--out {out} already exists: name another folder or remove it")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """Say in a sentence that `path`, or what was to become a part of it, could not be written for lack of room."""
    try:
        yield
    except NoRoom as error:
        raise NoRoom(path, error.reason) from error
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise NoRoom(path, NO_ROOM[error.errno]) from error
    except SafetensorError as error:  # which has its own words for what the system said
        raise NoRoom(path, str(error)) from error
