"""Audio outside the folder of the file that names it: read only where the caller allows it."""

import os
from functools import lru_cache
from pathlib import Path

from trimbre.errors import OptionError


def outside(what: str) -> OptionError:
    """The error for audio that a file may not name unless it is trusted."""
    return OptionError("allow_outside", False, f"{what}: allow it if you trust this file")


def refuse_outside(audio: Path, folder: Path, place: str) -> None:
    """Raise OptionError, naming the `place`, for audio that is not in `folder`, links followed; both are absolute."""
    real = Path(os.path.realpath(audio)) if audio.is_symlink() else _real_folder(audio.parent) / audio.name
    if audio.name in ("", "..") or not real.is_relative_to(_real_folder(folder)):
        raise outside(f"{place}: the audio {audio} lies outside {folder}")


@lru_cache(maxsize=1024)
def _real_folder(folder: Path) -> Path:
    """A folder with links followed; cached, since a manifest has many files in few folders."""
    return Path(os.path.realpath(folder))
