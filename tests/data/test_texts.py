"""Texts of a language: lines of text files and transcripts of data, by path or in memory."""

import pytest

from trimbre.data.cuts import read_cuts
from trimbre.data.texts import resolve_texts
from trimbre.errors import OptionError, UserError


@pytest.fixture
def files(tmp_path):
    (tmp_path / "words").write_text("\ufeffone\ntwo three\n", encoding="utf-8")
    (tmp_path / "more.txt").write_text("vier\n", encoding="utf-8")
    return tmp_path


def test_files_and_data_are_read_together(files, noise_corpus):
    said = {cut.supervisions[0].text for cut in read_cuts(noise_corpus)}
    words, more = str(files / "words"), files / "more.txt"
    assert resolve_texts("vocabulary", words) == (words, ["one", "two three"])
    assert resolve_texts("vocabulary", [words, more]).texts == ["one", "two three", "vier"]
    found = resolve_texts("vocabulary", f"{words},{noise_corpus}")
    assert found.name == f"{words},{noise_corpus}"
    assert found.texts[:2] == ["one", "two three"]
    assert set(found.texts[2:]) == said
    assert set(resolve_texts("vocabulary", list(read_cuts(noise_corpus))).texts) == said
    (files / "wide.txt").write_text("fünf\r\nsechs\r\n", encoding="utf-16")  # as Notepad saves it
    assert resolve_texts("vocabulary", files / "wide.txt").texts == ["fünf", "sechs"]


def test_what_has_no_words_is_refused(files):
    (files / "empty").write_text("\n")
    (files / "bytes").write_bytes(b"one\n\xff\x00")
    with pytest.raises(OptionError, match=r"vocabulary=.*empty.*no word in it"):
        resolve_texts("vocabulary", str(files / "empty"))
    with pytest.raises(UserError, match=r"bytes, line 2: not UTF-8, save the file in the encoding UTF-8"):
        resolve_texts("vocabulary", files / "bytes")
    with pytest.raises(OptionError, match=r"vocabulary=.*no such file"):
        resolve_texts("vocabulary", str(files / "gone.txt"))
