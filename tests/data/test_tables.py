"""Tables as people write them: what is plain is read rightly, and the rest is named with file and line."""

import json
import time

import pytest

from trimbre.data.tables import columns_of, read_table
from trimbre.errors import UserError

PLAIN = {
    "as it should be": ("csv", "file_name,text\na.wav,hello there\nb.wav,plain words\n"),
    "no last line end": ("csv", "file_name,text\na.wav,hello there\nb.wav,plain words"),
    "Windows line ends": ("csv", "file_name,text\r\na.wav,hello there\r\nb.wav,plain words\r\n"),
    "old Mac line ends": ("csv", "file_name,text\ra.wav,hello there\rb.wav,plain words\r"),
    "blank lines": ("csv", "\nfile_name,text\n\na.wav,hello there\n,\nb.wav,plain words\n\n"),
    "padded": ("csv", " file_name , text \n a.wav , hello there \nb.wav,  plain words\n"),
    "quoted": ("csv", '"file_name","text"\n"a.wav","hello there"\n"b.wav","plain words"\n'),
    "padded quotes": ("csv", 'file_name, text\na.wav, "hello there"\nb.wav, "plain words"\n'),
    "capital header": ("csv", "File Name,TEXT\na.wav,hello there\nb.wav,plain words\n"),
    "semicolons": ("csv", "file_name;text\na.wav;hello there\nb.wav;plain words\n"),
    "tabs in a csv": ("csv", "file_name\ttext\na.wav\thello there\nb.wav\tplain words\n"),
    "commas in a tsv": ("tsv", "file_name,text\na.wav,hello there\nb.wav,plain words\n"),
    "Excel's hint": ("csv", "sep=;\nfile_name;text\na.wav;hello there\nb.wav;plain words\n"),
    "Common Voice": ("tsv", "client_id\tpath\tsentence\nx\ta.wav\thello there\nx\tb.wav\tplain words\n"),
    "DeepSpeech": ("csv", "wav_filename,wav_filesize,transcript\na.wav,9,hello there\nb.wav,9,plain words\n"),
    "emptied columns": ("csv", "file_name,text,,\na.wav,hello there,,\nb.wav,plain words,,\n"),
    "empty text before the real one": ("csv", "file_name,text,sentence\na.wav,,hello there\nb.wav,,plain words\n"),
    "two texts that agree": (
        "csv",
        "path,sentence,text\na.wav,Hello there!,hello there\nb.wav,plain words,",
    ),
    "no header": ("csv", "a.wav,hello there\nb.wav,plain words\n"),
    "LJ Speech": ("csv", "a.wav|Hello 1|hello there\nb.wav|plain words|\n"),
    "JSON lines": (
        "jsonl",
        '{"file_name": "a.wav", "text": "hello there"}\n\n{"path": "b.wav", "sentence": "plain words"}',
    ),
    "a JSON array": (
        "json",
        '[{"file_name": "a.wav", "text": "hello there"},\n {"file_name": "b.wav", "text": "plain words"}]',
    ),
    "null before the real one": (
        "jsonl",
        '{"file_name": "a.wav", "text": null, "transcription": "hello there"}\n'
        '{"file_name": "b.wav", "text": NaN, "transcription": "plain words"}',
    ),
    "Hugging Face's audio": (
        "jsonl",
        '{"audio": {"path": "a.wav", "bytes": null}, "text": "hello there"}\n{"audio": "b.wav", "text": "plain words"}',
    ),
}


def written(folder, suffix, content, encoding="utf-8"):
    path = folder / f"metadata.{suffix}"
    path.write_bytes(content.encode(encoding))
    return path


def read(path) -> list[tuple[str, str | None]]:
    return [(row.files[0], row.text) for row in read_table(path)]


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_plain_is_read(tmp_path, name):
    suffix, content = PLAIN[name]
    assert read(written(tmp_path, suffix, content)) == [("a.wav", "hello there"), ("b.wav", "plain words")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["as it should be", "semicolons", "Common Voice", "JSON lines"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, name, encoding):
    suffix, content = PLAIN[name]
    path = written(tmp_path, suffix, content.replace("hello there", "olá, 你好"), encoding)
    if "," not in content or suffix != "csv":
        assert read(path)[0] == ("a.wav", "olá, 你好")
    assert read(path)[1] == ("b.wav", "plain words")


@pytest.mark.parametrize(
    ("suffix", "row", "text"),
    [
        ("csv", "a.wav,hello, this is, the rest", "hello, this is, the rest"),
        ("csv", "a.wav,hello,", "hello"),
        ("csv", 'a.wav,"hello", she said, "bye"', '"hello", she said, "bye"'),
        ("csv", '"a.wav",hello, you', "hello, you"),
        ("csv", 'a.wav,"she said ""hi"", then"', 'she said "hi", then'),
        ("csv", 'a.wav,she said "hi" then', 'she said "hi" then'),
        ("csv", 'a.wav,"hi" she said', '"hi" she said'),
        ("csv", 'a.wav,"two\nlines, of text"', "two lines, of text"),
        ("csv", "a.wav,007", "007"),
        ("csv", "a.wav,null", "null"),  # German for zero
        ("csv", "a.wav,", ""),
        ("csv", 'a.wav,""', ""),
        ("csv", "a.wav,   ", ""),
        ("tsv", 'a.wav\t"hello" she said', '"hello" she said'),
        ("tsv", 'a.wav\t"""hello"" she said"', '"hello" she said'),
        ("tsv", 'a.wav\t"hello there', '"hello there'),
        ("tsv", "a.wav\thello\tthere", "hello\tthere"),
        ("jsonl", '{"file_name": "a.wav", "text": 5}', "5"),
        ("jsonl", '{"file_name": "a.wav", "text": ""}', ""),
        ("jsonl", '{"file_name": "a.wav", "text": null}', None),
        ("jsonl", '{"file_name": "a.wav"}', None),
    ],
)
def test_one_row(tmp_path, suffix, row, text):
    """The row after it is read as well."""
    head = {"csv": "file_name,text\n", "tsv": "file_name\ttext\n", "jsonl": ""}[suffix]
    last = {"csv": "b.wav,x", "tsv": "b.wav\tx", "jsonl": '{"file_name": "b.wav", "text": "x"}'}[suffix]
    assert read(written(tmp_path, suffix, f"{head}{row}\n{last}\n")) == [("a.wav", text), ("b.wav", "x")]


@pytest.mark.parametrize(
    ("suffix", "content", "said"),
    [
        (
            "csv",
            'file_name,text\na.wav,x\nb.wav,"hello there\nc.wav,plain words\n',
            "line 3: a quote that is never closed",
        ),
        ("csv", 'file_name,text\na.wav,"hello\nb.wav,"words"\n', "line 2: a quote that is never closed"),
        ("csv", 'text,file_name\n"hello,a.wav\nwords,b.wav\nsaid "so",c.wav\n', "line 2: a quote that is never closed"),
        ("csv", 'file_name,text\na.wav,x\nb.wav,"hello', "line 3: a quote that is never closed"),
        (
            "csv",
            'file_name,text,speaker\na.wav,"hi" you, all,me\n',
            "line 2: a quote that is not closed or not doubled",
        ),
        ("csv", "file_name,text\na.wav,x\nb.wav\n", "line 3: 1 cell under 2 columns (file_name, text)"),
        ("csv", "file_name,text,speaker\na.wav,x\n", "line 2: 2 cells under 3 columns (file_name, text, speaker)"),
        (
            "csv",
            "text,file_name\nhello, you,a.wav\n",
            "line 2: 3 cells under 2 columns: put a cell with a comma in quotes",
        ),
        ("csv", "file_name,text,speaker\na.wav,hi, you,me\n", "line 2: 4 cells under 3 columns"),
        ("csv", "file_name,text,sentence\na.wav,hello,words\n", "line 2: text and sentence have different texts"),
        ("csv", "file_name,text,sentence\na.wav,कि,की\n", "line 2: text and sentence have different texts"),
        ("csv", "file_name,text\na.wav,NaN\n", "line 2: text is NaN, which stands for a missing cell"),
        ("csv", "file_name,text\n,hello\n", "line 2: no file_name (columns: file_name, text)"),
        (
            "csv",
            "words,length\nhello,3\n",
            "line 1: no column names the audio, as file_name does (columns: words, length)",
        ),
        ("jsonl", '{"file_name": "a.wav"}\n\n{"file_name": "b.wav", "text": ["x"]}', 'line 3: text is ["x"], where'),
        ("jsonl", '{"file_name": "a.wav", "text": true}', "line 1: text is true, where a string is expected"),
        ("jsonl", '{"file_name": ["a.wav"], "text": "x"}', "line 1: file_name is"),
        ("jsonl", '{"file_name": "a.wav"}\n{"file_name": "b.wav",}', "line 2: not JSON"),
        ("jsonl", '{"file_name": "a.wav", "text": "\\ud800"}', "line 1: text has half of a character"),
        (
            "jsonl",
            '{"file_name": "a.wav"}\n{"file_name": "b.wav", "text": "x", "text": "y"}',
            "line 2: not JSON (the key",
        ),
        ("json", '[\n {"file_name": "a.wav"},\n\n {"text": "x",\n "text": "x"}]', "line 4: not JSON (the key 'text'"),
        ("json", '[\n {"file_name": "a.wav"},\n {"file_name": "b.wav",\n "text": true}\n]', "line 3: text is true"),
        ("csv", "file_name,text\na.wav,\nb.wav,null\nc.wav,None\n", "line 3: the text is null, as in every row"),
        ("csv", "file_name,start,end\na.wav,2.5,1.5\n", "line 2: end is 1.5 s, which is not after 2.5 s where"),
        ("csv", "file_name,end_time\na.wav,0\n", "line 2: end_time is 0 s, which is not after 0 s where"),
        (
            "csv",
            "file_name,start,stop,duration\na.wav,1,2,2\n",
            "line 2: it ends at 2 s by stop and at 3 s by duration",
        ),
        ("csv", "file_name,start,offset\na.wav,1,2\n", "line 2: offset and start have different times"),
        ("csv", "file_name,begin\na.wav,0:01\n", "line 2: begin is 0:01, where seconds are expected"),
        ("jsonl", '{"audio_filepath": "a.wav", "offset": "x"}', "line 1: offset is x, where seconds are expected"),
    ],
)
def test_what_is_not_plain_is_named_with_its_line(tmp_path, suffix, content, said):
    path = written(tmp_path, suffix, content)
    with pytest.raises(UserError) as refused:
        list(read_table(path))
    assert str(refused.value).startswith(f"{path}, {said}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file_name,text\na.wav,x\nb.wav,café\n".encode("latin-1"), "line 3: not UTF-8, save the file in the encoding"),
        ("file_name,text\na.wav,x\n".encode("utf-16-le"), "line 1: it has null characters"),
        (b"\xff\xfea", "line 1: not UTF-16"),
    ],
)
def test_another_encoding_is_named_with_its_line(tmp_path, content, said):
    path = tmp_path / "metadata.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        list(read_table(path))
    assert str(refused.value).startswith(f"{path}, {said}")


def test_columns_beside_the_text(tmp_path):
    """Speaker, language and split; and the part of a file that NeMo's manifests name."""
    path = written(tmp_path, "csv", "file_name,speaker_id,locale,split,other,text\na.wav,me,de,test,9,hallo\n")
    (row,) = read_table(path)
    assert (row.speaker, row.language, row.split, row.text, row.start) == ("me", "de", "test", "hallo", None)
    assert columns_of(path) == ["file_name", "speaker_id", "locale", "split", "other", "text"]
    rows = [{"audio_filepath": "a.wav", "offset": start, "duration": 1.5, "text": "x"} for start in (None, 2)]
    path = written(tmp_path, "jsonl", "\n".join(map(json.dumps, rows)))
    assert [(row.start, row.seconds) for row in read_table(path)] == [(0.0, 1.5), (2.0, 1.5)]


@pytest.mark.parametrize(
    ("columns", "cells", "part"),
    [
        ("start,end", "1.5,4", (1.5, 2.5)),
        ("Begin, Stop", "1.5,4", (1.5, 2.5)),
        ("start_time,end_time", "0,4", (0.0, 4.0)),
        ("start,duration", "1.5,2.5", (1.5, 2.5)),
        ("start,end,duration", "1.5,4,2.5", (1.5, 2.5)),
        ("start_ms,end_ms", "1500,4000", (1.5, 2.5)),
        ("start_ms,duration", "1500,2.5", (1.5, 2.5)),
        ("start,offset", "1.5,1.50", (1.5, None)),
        ("end", "4", (0.0, 4.0)),
        ("start,end", "1.5,", (1.5, None)),
        ("start,end", ",", (None, None)),
        ("duration", "4", (None, None)),
    ],
)
def test_the_part_of_a_file_by_its_begin_and_end(tmp_path, columns, cells, part):
    """A duration alone is that of the file."""
    (row,) = read_table(written(tmp_path, "csv", f"file_name,{columns}\na.wav,{cells}\n"))
    assert (row.start, row.seconds) == part


def test_an_empty_table_has_no_rows(tmp_path):
    for suffix, content in (
        ("csv", ""),
        ("csv", "\n\n"),
        ("csv", "file_name,text\n"),
        ("jsonl", "\n"),
        ("csv", "sep=;"),
    ):
        assert read(written(tmp_path, suffix, content)) == [], content


def test_the_time_to_read_grows_with_the_length(tmp_path):
    """Twenty thousand rows with quotes, and a quote that is open from the first of them."""
    rows = "\n".join(f'{number}.wav,"hello, {number}"' for number in range(20_000))
    path = written(tmp_path, "csv", f"file_name,text\n{rows}\n")
    begun = time.perf_counter()
    assert len(read(path)) == 20_000
    path = written(tmp_path, "csv", 'file_name,text\na.wav,"hello\n' + "and more\n" * 20_000)
    with pytest.raises(UserError, match="line 2: a quote that is never closed"):
        read(path)
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize("missing", ["null", "None", "nan"])
def test_a_missing_cell_beside_a_text_is_none(tmp_path, missing):
    path = tmp_path / "metadata.csv"
    path.write_text(f"file_name,text,\u200bsentence\na.wav,{missing},hello\nb.wav,two,{missing}\n", encoding="utf-8")
    assert [row.text for row in read_table(path)] == ["hello", "two"]
    path.write_text("file_name,text\na.wav,null\n", encoding="utf-8")  # zero, in German
    assert [row.text for row in read_table(path)] == ["null"]
