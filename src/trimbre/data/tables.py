"""Tables of recordings as people write them: CSV, TSV and JSON lines, each row a file and what is known of it.

What can mean one thing only is read so: another delimiter, a padded or capital header, a comma in a text that stands
last and has no quotes, a byte order mark. Whatever else is odd is an error that names the file and the line.
"""

import codecs
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from trimbre.data.columns import END, FILE, LANGUAGE, NAMES, SECONDS, SPEAKER, SPLIT, START, TEXT, canonical, indices
from trimbre.data.delimited import Delimited
from trimbre.data.text import are_same
from trimbre.errors import UserError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
"""Endings of files that are read as tables."""
Stated: TypeAlias = tuple[str, str]
"""A column and its value in a row."""
TOLERANCE = 0.1
"""Seconds by which a part's end and its length may differ: times in tables are rounded."""
MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
MISSING = ("nan", "NaN", "<NA>", "#N/A")
"""What programs write for a missing cell, and nobody says."""
EMPTY = (*MISSING, "null", "NULL", "Null", "None", "NONE", "N/A", "n/a")
"""What they write too, and what stands for a missing cell where another column has a text: `null` is a German digit."""


@dataclass(frozen=True)
class Row:
    """What a row of a table says of one recording."""

    line: int
    """Counted from 1, the header included."""
    files: tuple[str, ...]
    """Names of the audio as they are given, at least one; more than one where several columns name it."""
    text: str | None
    """The transcript, with `""` for an empty one; None where none is stated."""
    speaker: str | None = None
    language: str | None = None
    split: str | None = None
    start: float | None = None
    """Seconds into the file; None where the whole file is meant."""
    seconds: float | None = None
    """Length from `start`; None up to the end of the file."""


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a table of recordings.

    Raises:
        UserError: it cannot be read, or a row has more than one meaning; the sentence names the line.
    """
    missing: list[Row] = []
    texts = 0
    for line, columns, values in _rows(path):
        row = _row(path, line, columns, values)
        texts += bool(row.text)
        if row.text in EMPTY:
            missing.append(row)
        yield row
    if len(missing) > 1 and len(missing) == texts:
        raise UserError(
            f"{path}, line {missing[0].line}: the text is {missing[0].text}, as in every row that has one, which "
            "stands for a missing cell: fill the column or leave it out"
        )


def columns_of(path: Path) -> list[str]:
    """The columns of a table, as they are written; none where it is empty or cannot be read."""
    try:
        return next((columns for _, columns, _ in _rows(path)), [])
    except UserError:
        return []


def decoded(path: Path) -> str:
    """The text of a file in UTF-8, or in what its byte order mark says.

    Raises:
        UserError: it cannot be read, or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        wanted = "UTF-8" if encoding == "utf-8-sig" else encoding.upper()
        raise UserError(f"{path}, line {line}: not {wanted}, save the file in the encoding UTF-8") from error
    if "\0" in text:
        line = text.split("\0")[0].count("\n") + 1
        raise UserError(f"{path}, line {line}: it has null characters, save the file as text in the encoding UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _rows(path: Path) -> Iterator[tuple[int, list[str], Sequence[Any]]]:
    """(line, columns, values) of every row; the values are strings, or what JSON has."""
    text = decoded(path)
    if path.suffix.lower() not in (".jsonl", ".json"):
        yield from Delimited(path, text.split("\n")).rows()
        return
    for line, row in _objects(path, text):
        if not isinstance(row, dict):
            raise UserError(f'{path}, line {line}: not an object such as {{"file_name": "a.wav"}}')
        yield line, list(row), list(row.values())


def _objects(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """(line, value) of JSON lines, or of one array."""
    if text.lstrip().startswith("["):
        try:
            yield from _items(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {getattr(error, 'lineno', 1)}: not JSON ({error})") from error
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line, object_pairs_hook=unrepeated)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}, line {number}: not JSON ({error})") from error


def _items(text: str) -> Iterator[tuple[int, Any]]:
    """(line, value) of an array."""
    decoder = json.JSONDecoder(object_pairs_hook=unrepeated)
    line, counted, at = 1, 0, text.index("[") + 1
    for _ in json.loads(text):
        while text[at] in " \t\n,":
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), text, at) from error
        yield line, value


def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON by its pairs; raises ValueError for a key that stands twice, of which the last would count."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found


def _row(path: Path, line: int, columns: list[str], values: Sequence[Any]) -> Row:
    def stated(names: Sequence[str]) -> list[Stated]:
        """(column, value) of these columns, without those that have none."""
        found = [(columns[index], values[index]) for index in indices(columns, names)]
        strings = [(column, _string(value, f"{path}, line {line}", column)) for column, value in found]
        return [(column, value.strip()) for column, value in strings if value is not None]

    def only(names: Sequence[str]) -> str | None:
        return next((value for _, value in stated(names) if value), None)

    files = [value for _, value in stated(FILE) if value] or [value for _, value in stated(NAMES) if value]
    if not files:
        raise UserError(f"{path}, line {line}: no file_name (columns: {', '.join(columns)})")
    place = f"{path}, line {line}"
    nemo = bool(indices(columns, ("audio_filepath",)))
    start, seconds = _part(place, stated(START), stated(END), stated(SECONDS), nemo=nemo)
    return Row(
        line,
        tuple(dict.fromkeys(files)),
        _transcript(place, stated(TEXT)),
        only(SPEAKER),
        only(LANGUAGE),
        only(SPLIT),
        start,
        seconds,
    )


def _part(
    place: str, starts: list[Stated], ends: list[Stated], lengths: list[Stated], *, nemo: bool
) -> tuple[float | None, float | None]:
    """Where the part of a file begins that a row states, and its length, by their (column, value) pairs.

    Args:
        nemo: whether it is a row of NeMo's manifests, in which a length alone is that of a part.
    """
    start, end = _seconds(place, starts), _seconds(place, ends)
    if start is None and end is None and not nemo:
        return None, None
    begun, length = start or 0.0, _seconds(place, lengths)
    if end is None:
        return begun, length
    if end <= begun:
        raise UserError(f"{place}: {ends[0][0]} is {end:g} s, which is not after {begun:g} s where it begins")
    if length is not None and abs(begun + length - end) > TOLERANCE:
        raise UserError(
            f"{place}: it ends at {end:g} s by {ends[0][0]} and at {begun + length:g} s by {lengths[0][0]}, keep one "
            "of these columns"
        )
    return begun, end - begun


def _seconds(place: str, stated: list[Stated]) -> float | None:
    """The time that columns of one meaning state; None where all of them are empty."""
    found: list[tuple[str, float]] = []
    for column, given in stated:
        if not given:
            continue
        try:
            value = float(given)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise UserError(f"{place}: {column} is {given}, where seconds are expected")
        if canonical(column).endswith("_ms"):
            value /= 1000
        found.append((column, value))
        if value != found[0][1]:
            raise UserError(f"{place}: {found[0][0]} and {column} have different times, keep one of these columns")
    return found[0][1] if found else None


def _transcript(place: str, stated: list[Stated]) -> str | None:
    """The transcript of a row by its (column, value) pairs."""
    filled = [(column, " ".join(value.split("\n"))) for column, value in stated if value]
    filled = [one for one in filled if one[1] not in EMPTY] or filled
    for column, value in filled:
        if value in MISSING:
            raise UserError(
                f"{place}: {column} is {value}, which stands for a missing cell: leave out the row or fill it"
            )
    for column, value in filled[1:]:
        if not are_same(value, filled[0][1]):
            raise UserError(f"{place}: {filled[0][0]} and {column} have different texts, keep one of these columns")
    return filled[0][1] if filled else "" if stated else None


def _string(value: Any, place: str, column: str) -> str | None:
    """A value of JSON as a string; None for null."""
    if isinstance(value, dict) and canonical(column) in FILE:  # the audio column of Hugging Face's data sets
        value = value.get("path")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool | list | dict):
        raise UserError(f"{place}: {column} is {json.dumps(value)[:60]}, where a string is expected")
    try:
        str(value).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{place}: {column} has half of a character ({error.reason}), write it again") from error
    return str(value)
