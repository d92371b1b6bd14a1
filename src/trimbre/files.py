"""Atomic writes: files and directories are written beside their place and renamed into it when complete."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
    """Folder for downloads and measurements: `$TRIMBRE_CACHE`, or `trimbre` in the user's cache folder.

    Raises:
        UserError: the user has no home.
    """
    if given := os.environ.get("TRIMBRE_CACHE"):
        return Path(given).absolute()  # apt takes relative folders to be below its own
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "trimbre"
    except RuntimeError as error:
        raise UserError("this user has no home folder to keep a cache in: name a folder by TRIMBRE_CACHE") from error


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file to; it takes the place of `path` only if the block succeeds.

    Raises:
        NoRoom: the disk is full.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _parents_of(path):
        try:
            with _room_for(path):
                yield beside
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def directory_written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a new directory beside `path`; it replaces `path` and what was there only if the block succeeds.

    An empty directory that cannot be replaced, such as a mounted volume, is filled from within at the end.

    Raises:
        NoRoom: the disk is full.
    """
    path = named_path(path)
    filled = _is_empty(path) and not _replaceable(path)
    with _parents_of(path):
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path if filled else path.parent))
        try:
            with _room_for(path):
                yield beside
            beside.chmod(0o755)
            _take_place(beside, path, filled=filled)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _take_place(beside: Path, path: Path, *, filled: bool) -> None:
    """Rename a directory, or what is in it where the one in its place has to stay."""
    if filled:
        for part in sorted(beside.iterdir()):
            os.replace(part, path / part.name)
    elif path.exists():
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


@contextmanager
def _parents_of(path: Path) -> Iterator[None]:
    """Make the folders that `path` will lie in; those that were not there go again if the block fails."""
    missing = [folder for folder in path.absolute().parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # another process may have written there
                folder.rmdir()
        raise


def named_path(path: str | Path) -> Path:
    """The path itself, absolute where it has no name of its own, such as `.`: files beside it are named after it."""
    path = Path(path)
    return path if path.name not in ("", "..") else Path(os.path.abspath(path))


def refuse_existing(out: str | Path, *, mark: str | None = None, model: Any = None) -> None:
    """Raise OptionError where a directory cannot be written to `out`, or would replace something.

    An empty directory is there to be filled.

    Args:
        mark: a file that marks an earlier output of the same kind, which may be replaced.
        model: the model as it was given; a directory of this name is not written into.
    """
    given, out = str(out), named_path(out)
    try:
        if out.exists() and not out.is_dir():
            raise OptionError("out", given, "it already exists and is a file: name a folder to write")
        if out.exists() and not _is_empty(out) and not (mark is not None and (out / mark).is_file()):
            raise OptionError("out", given, "it already exists: name another folder or remove it")
        if (
            isinstance(model, str | Path)
            and os.path.isdir(model)
            and out.resolve().is_relative_to(Path(model).resolve())
        ):
            raise OptionError("out", given, f"it lies in the directory of the model {model}: name one outside it")
        _try_writing(out)
    except OSError as error:
        raise OptionError("out", given, f"it cannot be written ({error.strerror}): name another folder") from error


def refuse_file(out: Path, option: str, *, replaceable: Callable[[Path], Any] | None = None) -> None:
    """Raise OptionError where a file cannot be written to `out`, or would replace one of another kind.

    Args:
        option: the argument that it was given by.
        replaceable: reads a file of the same kind, and raises UserError for any other. None replaces no file.
    """
    if out.is_dir():
        raise OptionError(option, str(out), "it is a folder: name a file in it")
    try:
        if out.exists():
            if replaceable is None:
                raise OptionError(option, str(out), "it already exists: name another file or remove it")
            replaceable(out)
        _try_writing(out.parent)
    except OptionError as error:
        raise OptionError(option, str(out), error.advice) from error
    except UserError as error:
        raise OptionError(option, str(out), "it exists and is of another kind: name another file") from error
    except OSError as error:
        raise OptionError(option, str(out), f"it cannot be written ({error.strerror}): name another file") from error


def _try_writing(out: Path) -> None:
    """Raise OSError or OptionError where no directory can be made in the place of `out`."""
    there = next(folder for folder in (out, *out.parents, Path.cwd()) if folder.exists())
    if not there.is_dir():
        raise OptionError("out", str(out), f"{there} is a file: name another folder")
    if there == out and _replaceable(out):
        there = out.parent
    os.rmdir(tempfile.mkdtemp(prefix=f".{out.name}."[:60], suffix=".part", dir=there))


def _is_empty(path: Path) -> bool:
    """Whether there is a directory with nothing in it, but for what a killed process left or another is writing."""
    return path.is_dir() and all(
        part.name.startswith(f".{path.name}.") and part.suffix == ".part" for part in path.iterdir()
    )


def _replaceable(folder: Path) -> bool:
    """Whether a directory can be renamed and its name be taken by another."""
    own = folder.absolute()
    return not os.path.ismount(own) and own != Path.cwd() and not own.is_symlink() and os.access(own.parent, os.W_OK)


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
