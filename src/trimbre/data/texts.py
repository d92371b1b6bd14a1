"""Texts of a language: the lines of text files, and the transcripts of data."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from trimbre.data.columns import AUDIO
from trimbre.data.cuts import SUFFIXES, TABLES, CutsLike, paths_in, transcript_of
from trimbre.data.source import resolve_cuts
from trimbre.data.tables import decoded
from trimbre.errors import OptionError


class NamedTexts(NamedTuple):
    """Texts and the name that reports and messages give them."""

    name: str
    texts: list[str]


def resolve_texts(option: str, data: CutsLike, *, allow_outside: bool = False) -> NamedTexts:
    """Read texts from text files, and the transcripts of manifests, tables and folders.

    Args:
        option: the argument that they were given by, for messages.
        data: as `read_cuts` takes it; a file that is neither a manifest nor a table is one of text, in UTF-8 or in what
            its byte order mark says.

    Raises:
        UserError: nothing that can be read is there, or no word is in it.
    """
    paths: Sequence[str | Path] = paths_in(str(data)) if isinstance(data, str | Path) else ()
    if not paths and isinstance(data, Sequence) and all(isinstance(one, str | Path) for one in data):
        paths = [one for one in data if isinstance(one, str | Path)]
    files = [Path(path) for path in paths if _is_text(Path(path))]
    others = [str(path) for path in paths if not _is_text(Path(path))]
    texts = [line for file in files for line in decoded(file).splitlines()]
    name = ",".join(map(str, paths))
    if others or not paths:
        given = resolve_cuts(option, others or data, allow_outside=allow_outside, repeated=True)
        texts += transcripts_in(given.cuts)
        name = name or given.name
    if not any(text.strip() for text in texts):
        raise OptionError(option, name, "there is no word in it: give text files, or data with transcripts")
    return NamedTexts(name, texts)


def transcripts_in(cuts: Iterable[object]) -> Iterator[str]:
    """The transcripts of the cuts that have one."""
    return (text for cut in cuts if (text := transcript_of(cut)) is not None)


def _is_text(path: Path) -> bool:
    known = (*SUFFIXES, *TABLES, *AUDIO)
    return path.is_file() and not path.name.lower().endswith(known)
