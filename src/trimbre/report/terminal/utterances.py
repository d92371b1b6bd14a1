"""Utterances with the most errors: reference and hypothesis one below the other, word by word, errors marked."""

from collections.abc import Iterator, Mapping, Sequence

import jiwer
import kaldialign
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from trimbre.evaluation.evaluate import SetResult
from trimbre.report.formatting import plural

WIDTH = 80
"""Columns of the terminal that are filled, at most."""
MARKS = {"substitute": "S", "delete": "D", "insert": "I", "equal": ""}


def worst_utterances(sets: Mapping[str, SetResult], count: int) -> Iterator[Text]:
    """The `count` utterances of each set with the most errors, the most first; of those with as many, the shortest.

    Texts are shown as they were compared: normalised. Below an utterance stand the hypotheses of reference recognisers.
    """
    yield Text("S substituted, D deleted, I inserted")
    for name, result in sets.items():
        judged = zip(result.utterances(), result.evaluation.by_characters, strict=True)
        rows = [(row, alone) for row, alone in judged if row["errors"]]
        rows.sort(key=lambda one: (-one[0]["errors"], one[0]["words"], one[0]["id"]))
        shown = rows[:count]
        said = f"the {len(shown)} with the most errors" if shown else "none with an error"
        yield Text(f"{name}: of {plural(len(result.evaluation.ids), 'utterance')} {said}")
        for row, alone in shown:
            yield Text()
            length = plural(row["words"], "character" if alone else "word")
            yield Text(f"{row['id']}: {plural(row['errors'], 'error')} in {length}")
            how = {"characters": alone, "merge_compounds": result.evaluation.merge_compounds}
            yield from map(Text, aligned(row["reference"], row["hypothesis"], **how))
            for reference in result.references:
                text, errors = (row[f"{reference}_{what}"] for what in ("hypothesis", "errors"))
                yield Text(f"{reference}: {plural(errors, 'error')}")
                if errors:
                    yield from map(Text, aligned(row["reference"], text, **how))
        yield Text()


def aligned(
    reference: str, hypothesis: str, *, width: int = WIDTH, characters: bool = False, merge_compounds: bool = False
) -> Iterator[str]:
    """Lines `REF:`, `HYP:` and one of marks, of `width` columns at most; longer texts go on below.

    Columns are counted as a terminal does: Chinese characters take two.

    Args:
        characters: align these, without spaces, and not words.
        merge_compounds: as `word_errors` takes it.
    """
    columns = _merged_columns if merge_compounds else _columns
    if characters:
        reference, hypothesis = (" ".join("".join(text.split())) for text in (reference, hypothesis))
    line: list[tuple[str, str, str]] = []
    room = width - len("REF: ")
    for words in columns(reference, hypothesis):
        for column in _broken(words, room):
            if sum(map(_cells, [*line, column])) + len(line) > room:
                yield from _lines(line)
                line = []
            line.append(column)
    yield from _lines(line)


def _columns(reference: str, hypothesis: str) -> Iterator[tuple[str, str, str]]:
    """(word of the reference, word of the hypothesis, mark); stars stand where there is none."""
    found = jiwer.process_words(reference, hypothesis)
    expected, recognised = found.references[0], found.hypotheses[0]
    for chunk in found.alignments[0]:
        pairs = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        for step in range(pairs):
            ours = "" if chunk.type == "insert" else expected[chunk.ref_start_idx + step]
            theirs = "" if chunk.type == "delete" else recognised[chunk.hyp_start_idx + step]
            yield ours or "*" * cell_len(theirs), theirs or "*" * cell_len(ours), MARKS[chunk.type]


def _merged_columns(reference: str, hypothesis: str) -> Iterator[tuple[str, str, str]]:
    """The same where words next to each other that joined are one of the other side are no error."""
    for ours, theirs in kaldialign.align(reference.split(), hypothesis.split(), "", merge_compounds=True):
        differs = "S" if ours and theirs else "D" if ours else "I"
        mark = "" if ours.replace(" ", "") == theirs.replace(" ", "") else differs
        yield ours or "*" * cell_len(theirs), theirs or "*" * cell_len(ours), mark


def _broken(column: tuple[str, str, str], room: int) -> Iterator[tuple[str, str, str]]:
    """A column in as many as it takes to fit: half as many characters take no more room than there is."""
    ours, theirs, mark = column
    length = max(len(ours), len(theirs))
    step = length if _cells(column) <= room else room // 2
    for start in range(0, length, step):
        yield ours[start : start + step], theirs[start : start + step], mark


def _cells(column: tuple[str, str, str]) -> int:
    return max(map(cell_len, column))


def _lines(columns: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    for name, place in (("REF: ", 0), ("HYP: ", 1), ("     ", 2)):
        line = name + " ".join(set_cell_size(column[place], _cells(column)) for column in columns)
        if place < 2 or line.strip():
            yield line.rstrip()
