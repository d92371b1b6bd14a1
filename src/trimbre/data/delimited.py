"""Text with delimiters as people write it: CSV and TSV whose quotes, commas and headers may be amiss."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from trimbre.data.columns import AUDIO, FILE, LANGUAGE, NAMES, SPEAKER, SPLIT, TEXT, canonical, indices, names_audio
from trimbre.errors import UserError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
LJ_SPEECH = ["file_name", "as written", "text"]
"""Columns of LJ Speech's table, which has no header: the last is what is spoken, with numbers as words."""
LONGEST_CELL = 50
"""Lines that a cell in quotes may have: more of them are a quote that was never closed."""


class Delimited:
    """The rows of a text with delimiters, and the columns that its header names."""

    def __init__(self, path: Path, lines: list[str]):
        self.path, self.lines = path, lines
        self.first = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
        self.columns: list[str] = []
        if self.first == len(lines):
            return
        hint = re.fullmatch(r"sep=(.)", self.lines[self.first].strip())  # Excel's first line
        self.first += hint is not None
        if self.first == len(lines):
            return
        head = self.lines[self.first]
        likely = "\t" if path.suffix.lower() == ".tsv" else ","
        ways = [hint[1]] if hint else sorted(DELIMITERS, key=lambda one: one != likely)
        self.delimiter = max(ways, key=lambda one: self._known(head, one))
        self.columns = self._header(head)

    def _known(self, head: str, delimiter: str) -> tuple[int, int, int]:
        """How well a delimiter fits the first line: by the columns that it yields, else by a file in its first cell."""
        cells = [canonical(cell.strip('" ')) for cell in head.split(delimiter)]
        known = sum(cell in (*FILE, *NAMES, *TEXT, *SPEAKER, *LANGUAGE, *SPLIT) for cell in cells)
        return known, Path(cells[0]).suffix in AUDIO, head.count("|") if delimiter == "|" else 0

    def _header(self, head: str) -> list[str]:
        """The columns; those of a table without a header where its first line is a row already."""
        cells = head.split(self.delimiter)
        if names_audio([cell.strip('" ') for cell in cells]):
            columns = [cell.strip() for cell in self._strict(head) or cells]
            self.first += 1
            while columns and not columns[-1]:  # spreadsheets write columns that were emptied
                columns.pop()
            return columns
        is_file = Path(cells[0].strip('" ').lower()).suffix in AUDIO
        if (len(cells) <= 2 and is_file) or (self.delimiter == "|" and len(cells) == 2):
            return ["file_name", "text"][: len(cells)]
        if self.delimiter == "|" and len(cells) == 3:
            return LJ_SPEECH
        raise UserError(
            f"{self.path}, line {self.first + 1}: no column names the audio, as file_name does "
            f"(columns: {', '.join(cell.strip() for cell in cells)})"
        )

    def rows(self) -> Iterator[tuple[int, list[str], Sequence[str]]]:
        """(line, columns, cells) of every row that is not blank."""
        number = self.first
        while number < len(self.lines):
            cells, used = self._cells(number)
            if any(cell.strip() for cell in cells):
                cells = self._fitted(cells, number)
                if self.columns is LJ_SPEECH and not cells[2].strip():  # in some of its rows it is left out
                    cells[2] = cells[1]
                yield number + 1, self.columns, cells
            number += used

    def _cells(self, number: int) -> tuple[list[str], int]:
        """The cells of the row that begins at a line, and its number of lines."""
        line = self.lines[number]
        plain = line.split(self.delimiter)
        if '"' not in line:
            return plain, 1
        if self.delimiter in "\t|" and len(plain) == len(self.columns):  # quotes belong to the text
            return [re.sub(r'^\s*"((?:[^"]|"")*)"\s*$', _unquoted, cell) for cell in plain], 1
        taken = line
        for used in range(1, LONGEST_CELL + 1):
            try:
                if (cells := self._strict(taken)) is not None:
                    return cells, used
            except csv.Error as error:
                if used == 1 and len(plain) == len(self.columns):
                    return plain, 1  # a quote within a text
                raise self._error(number, f"a quote that is not closed or not doubled ({error})") from error
            following = number + used
            if following == len(self.lines) or self._is_row(self.lines[following]):
                break
            taken += f"\n{self.lines[following]}"
        raise self._error(number, "a quote that is never closed: close it or remove it")

    def _strict(self, taken: str) -> list[str] | None:
        """The cells of a row by the rules of CSV; None where a quote is open at its end.

        Raises:
            csv.Error: a quote where none can be.
        """
        padded = re.search(rf'{re.escape(self.delimiter)} +"', taken) is not None
        lines = taken.splitlines(keepends=True)
        try:
            return next(csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=padded), [])
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                return None
            raise

    def _is_row(self, line: str) -> bool:
        """Whether a line that follows an open quote is a row of its own."""
        cells = line.split(self.delimiter)
        names = (cells[index] for index in indices(self.columns, (*FILE, *NAMES)) if index < len(cells))
        return any(Path(name.strip('" ').lower()).suffix in AUDIO for name in names)

    def _fitted(self, cells: list[str], number: int) -> list[str]:
        """As many cells as there are columns: what was spilled from a text that stands last is put back."""
        count = len(self.columns)
        while len(cells) > count and not cells[-1].strip():
            cells = cells[:-1]
        if len(cells) < count:
            raise self._error(number, f"{_counted(cells)} under {count} columns ({', '.join(self.columns)})")
        if len(cells) == count:
            return cells
        if indices(self.columns, TEXT) != [count - 1]:
            name = DELIMITERS.get(self.delimiter, "delimiter")
            raise self._error(number, f"{_counted(cells)} under {count} columns: put a cell with a {name} in quotes")
        rest = self.lines[number].split(self.delimiter, count - 1)
        return (
            rest if rest[:-1] == cells[: count - 1] else [*cells[: count - 1], self.delimiter.join(cells[count - 1 :])]
        )

    def _error(self, number: int, what: str) -> UserError:
        return UserError(f"{self.path}, line {number + 1}: {what}")


def _unquoted(found: re.Match[str]) -> str:
    return found[1].replace('""', '"')


def _counted(cells: Sequence[str]) -> str:
    return f"{len(cells)} cell{'s' if len(cells) > 1 else ''}"
