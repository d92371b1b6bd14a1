"""Recordings that a table lists: found as people name them, each once, and never two splits as one."""

import unicodedata

import numpy as np
import pytest
import soundfile
from helpers.tones import corpus_of, pitch, tone

from trimbre.data.audio import load_cut
from trimbre.data.check import refuse_unjudgeable
from trimbre.data.cuts import read_cuts, transcript_of, write_cuts
from trimbre.data.folder import folder as corpus_folder
from trimbre.data.source import resolve_cuts
from trimbre.errors import UserError


def put(folder, **tables: str):
    """Write `metadata.SUFFIX` for each suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in tables.items():
        (folder / f"metadata.{suffix}").write_text(content, encoding="utf-8")
    return folder


def record(path, hertz: float = 300, seconds: float = 0.2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(hertz, seconds, 8000), 8000)


def said(data) -> dict[str, str | None]:
    return {cut.id: transcript_of(cut) for cut in read_cuts(data)}


@pytest.mark.parametrize(
    ("there", "named"),
    [
        ("a.wav", "a.wav"),
        ("A.WAV", "a.wav"),
        ("a.wav", "A.WAV"),
        ("a.wav", "a"),
        ("a.b.flac", "a.b"),
        ("clips/a.wav", r"clips\a.wav"),
        ("clips/a.wav", "./clips/a.wav"),
        ("clips/a.wav", "a.wav"),
        ("wavs/LJ001-0001.wav", "LJ001-0001"),
        (unicodedata.normalize("NFD", "café.wav"), unicodedata.normalize("NFC", "café.wav")),
        (unicodedata.normalize("NFC", "café.wav"), unicodedata.normalize("NFD", "café.wav")),
        ("the call, 1.wav", '"the call, 1.wav"'),
    ],
)
def test_a_file_is_found_as_people_name_it(tmp_path, there, named):
    record(tmp_path / there)
    record(tmp_path / "other/b.flac")
    put(tmp_path, csv=f"file_name,text\n{named},hello\n")
    assert said(tmp_path) == {there: "hello"}
    made = corpus_folder(source=tmp_path, out=tmp_path.parent / f"{tmp_path.name}-out", split=False)
    assert (made.utterances, made.skipped) == ({"all": 1}, [])


def test_a_name_of_two_files_is_refused_and_an_exact_one_is_not(tmp_path):
    for name, hertz in (("one/a.wav", 300), ("two/a.wav", 500), ("a.flac", 700), ("A.flac", 900)):
        record(tmp_path / name, hertz)
    put(tmp_path, csv="file_name,text\na.wav,hello\n")
    for read in (read_cuts, lambda source: corpus_folder(source=source, out=tmp_path / "out")):
        with pytest.raises(UserError, match=r"metadata.csv, line 2: a.wav may be .*one/a.wav or .*two/a.wav"):
            read(tmp_path)
    put(tmp_path, csv="file_name,text\na.flac,hello\ntwo/a.wav,you\n")
    assert [pitch(load_cut(cut)) for cut in read_cuts(tmp_path)] == [700, 500]


def test_a_recording_that_is_listed_twice(tmp_path):
    record(tmp_path / "a.wav")
    put(tmp_path, csv="file_name,text\na.wav,hello\n./a.wav,hello\na,hello\n")
    assert said(tmp_path) == {"a.wav": "hello"}
    assert corpus_folder(source=tmp_path, out=tmp_path / "out").utterances == {"train": 1}
    put(tmp_path, csv="file_name,text\na.wav,hello\nb.wav,x\na.wav,others\n")
    record(tmp_path / "b.wav")
    with pytest.raises(UserError, match=r"metadata.csv, line 4: a.wav has another text in line 2, keep one of them"):
        read_cuts(tmp_path)


def test_speaker_and_language_are_kept(tmp_path):
    record(tmp_path / "a.wav")
    put(tmp_path, tsv="path\tsentence\tclient_id\tlocale\na.wav\thallo\tme\tde\n")
    corpus_folder(source=tmp_path, out=tmp_path / "out", split=False)
    for place in (tmp_path, tmp_path / "out"):
        (cut,) = read_cuts(place)
        (segment,) = cut.supervisions
        assert (segment.text, segment.speaker, segment.language) == ("hallo", "me", "de")


def test_a_language_that_is_not_known_is_noted(tmp_path):
    put(tmp_path / "in", csv="file_name,language,text\na.wav,klingon,x\nb.wav,German,y\nc.wav,und,z\n")
    for name in "abc":
        record(tmp_path / "in" / f"{name}.wav")
    (note,) = corpus_folder(source=tmp_path / "in", out=tmp_path / "out").notes
    assert note.startswith("1 of 3 recordings state the language 'klingon', of which nothing is known")


def test_parts_of_a_recording_are_cut_out_of_it(tmp_path):
    """As NeMo's manifests name them, in a file of any name."""
    clip = np.concatenate([tone(hertz, 1.0, 8000) for hertz in (300, 500, 700)])
    soundfile.write(tmp_path / "a.wav", clip, 8000)
    row = '{{"audio_filepath": "a.wav", "offset": {}, "duration": {}, "text": "{}"}}\n'
    manifest = tmp_path / "train_manifest.json"
    manifest.write_text(row.format(1.0, 1.0, "two") + row.format(2.0, 1.0, "three") + row.format(0, 1.0, "one"))
    corpus_folder(source=manifest, out=tmp_path / "out", split=False)
    for place in (manifest, manifest.rename(tmp_path / "train.jsonl"), tmp_path / "out"):
        if place.exists():
            cuts = list(read_cuts(place))
            assert [transcript_of(cut) for cut in cuts] == ["two", "three", "one"]
            assert [pitch(load_cut(cut)) for cut in cuts] == [500, 700, 300]
    table = put(tmp_path, csv="file_name,start,end,text\na.wav,1,2,two\na.wav,2.0,3.0,three\na.wav,0,1,one\n")
    assert [(transcript_of(cut), pitch(load_cut(cut))) for cut in read_cuts(table / "metadata.csv")] == [
        ("two", 500),
        ("three", 700),
        ("one", 300),
    ]
    put(tmp_path, csv="file_name,start,end,text\na.wav,1,2,two\na.wav,1,3,two\n")
    with pytest.raises(UserError, match=r"line 3: a.wav has another length in line 2"):
        read_cuts(table / "metadata.csv")
    (tmp_path / "train.jsonl").write_text(row.format(2.5, 1.0, "x"))
    with pytest.raises(UserError, match=r"train.jsonl, line 1: .*a.wav has 3 s, correct the part"):
        read_cuts(tmp_path / "train.jsonl")


def test_splits_are_named_and_never_mixed(tmp_path):
    for split in ("train", "test"):
        record(tmp_path / f"data/{split}/a.wav")
        put(tmp_path / f"data/{split}", csv=f"file_name,text\na.wav,{split} words\n")
    for root, names in ((tmp_path, "data/test, data/train"), (tmp_path / "data", "test, train")):
        with pytest.raises(UserError) as refused:
            read_cuts(root)
        assert f"it has the splits {names}: name one, {tmp_path}/data/test" in str(refused.value)
    assert said(tmp_path / "data/train") == {"a.wav": "train words"}
    made = corpus_folder(source=tmp_path, out=tmp_path / "out")
    assert made.utterances == {"train": 1, "test": 1}
    assert list(said(tmp_path / "out/test").values()) == ["test words"]
    with pytest.raises(UserError, match=f"it has the splits test, train: name one, {tmp_path}/out/test"):
        read_cuts(tmp_path / "out")


@pytest.mark.parametrize("way", ["folders in one table", "a column", "folders with texts beside"])
def test_splits_without_tables_of_their_own_are_kept(tmp_path, way):
    source, rows = tmp_path / "in", ["file_name,text,split"]
    for split in ("validation", "test"):
        place = f"{split}.wav" if way == "a column" else f"{split}/a.wav"
        record(source / place)
        rows.append(f"{place},{split} words,{split if way == 'a column' else ''}")
        if way == "folders with texts beside":
            (source / place).with_suffix(".txt").write_text(f"{split} words")
    if way != "folders with texts beside":
        put(source, csv="\n".join(rows))
        with pytest.raises(UserError, match="lists the splits validation, test, which should not be mixed"):
            read_cuts(source)
    assert corpus_folder(source=source, out=tmp_path / "out").utterances == {"test": 1, "validation": 1}
    assert list(said(tmp_path / "out/validation").values()) == ["validation words"]


def test_two_tables_in_a_folder_are_refused(tmp_path):
    record(tmp_path / "a.wav")
    put(tmp_path, csv="file_name,text\na.wav,x\n", jsonl='{"file_name": "a.wav", "text": "y"}')
    for read in (read_cuts, lambda source: corpus_folder(source=source, out=tmp_path / "out")):
        with pytest.raises(UserError, match=r"it holds metadata.csv and metadata.jsonl: name one of them"):
            read(tmp_path)
    assert said(tmp_path / "metadata.jsonl") == {"a.wav": "y"}
    assert said(f"{tmp_path / 'metadata.csv'}, {tmp_path / 'metadata.jsonl'}") == {"a.wav": "y"}


@pytest.mark.parametrize("name", ["transcripts.csv", "texts.txt", "labels.xlsx", "train.parquet", "all.json"])
def test_a_table_that_was_not_read_is_named(tmp_path, name):
    record(tmp_path / "in/a.wav")
    (tmp_path / "in" / name).write_text(
        '{"file": "a.wav", "words": "x"}' if name == "all.json" else "file,words\na.wav,x"
    )
    made = corpus_folder(source=tmp_path / "in", out=tmp_path / "out")
    (note,) = made.notes
    assert note.startswith(f"no recording has a transcript; there is {tmp_path}/in/{name}")
    assert ("(columns: file, words)" in note) == name.endswith(("csv", "json"))
    with pytest.raises(UserError, match=f"but {tmp_path}/in/{name}.*: name one of them"):
        read_cuts(tmp_path / "in")


@pytest.mark.parametrize("place", ["", "clips/"])
def test_a_set_without_transcripts_names_the_table_that_has_none(tmp_path, place):
    record(tmp_path / place / "a.wav")
    put(tmp_path, csv=f"file_name,words\n{place}a.wav,x\n")
    with pytest.raises(UserError, match=r"metadata.csv \(columns: file_name, words\), of which") as refused:
        refuse_unjudgeable(read_cuts(tmp_path), option="dev", name="d", processor=None, normalize="basic")
    assert "no transcribed utterance" in str(refused.value)
    put(tmp_path, csv=f"file_name\n{place}a.wav\n")
    (tmp_path / "metadata.csv").rename(tmp_path / "list.csv")
    corpus_folder(source=tmp_path / "list.csv", out=tmp_path / "out/in")
    with pytest.raises(UserError, match=r"give one with transcripts$"):
        refuse_unjudgeable(read_cuts(tmp_path / "out/in"), option="dev", name="d", processor=None, normalize="basic")


def test_recordings_that_are_passed_over_are_said(tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        record(tmp_path / "in" / name)
    (tmp_path / "in/odd.mid").write_bytes(b"MThd")
    put(tmp_path / "in", csv="file_name,words\na.wav,hello\n")
    made = corpus_folder(source=tmp_path / "in", out=tmp_path / "out")
    assert made.utterances == {"all": 1}
    untranscribed, unlisted, odd = made.notes
    assert "metadata.csv (columns: file_name, words), of which none was read for transcripts" in untranscribed
    assert unlisted.startswith(f"2 recordings are ({tmp_path}/in/b.wav and others) passed over: no row of")
    assert odd.startswith(f"{tmp_path}/in/odd.mid is passed over")


def test_a_comma_in_a_path_and_paths_in_a_sequence(tmp_path):
    one = corpus_of(tmp_path / "a, b" / "cuts", [tone(300, 0.3)], ["x"])
    two = corpus_of(tmp_path / "c", [tone(500, 0.3)], ["y"])
    write_cuts(read_cuts(one), one)
    for given in (f"{one},{two}", f"{one} , {two},", [one, two], (str(one), two)):
        assert [pitch(load_cut(cut)) for cut in read_cuts(given)] == [300, 500]
    for given in (one, str(one), [one]):
        assert [pitch(load_cut(cut)) for cut in read_cuts(given)] == [300]
    with pytest.raises(UserError, match=f"^data='{tmp_path}/d': there is no such file \\(in '{one},{tmp_path}/d'\\)"):
        read_cuts(f"{one},{tmp_path}/d")


def test_a_set_that_is_given_twice_is_refused_where_it_would_count_twice(tmp_path):
    """However it is named; another set beside it is none of them. Training takes it as often as it is given."""
    one = corpus_of(tmp_path / "one", [tone(300, 0.3)], ["x"])
    two = corpus_of(tmp_path / "two", [tone(500, 0.3)], ["y"])
    (tmp_path / "link").symlink_to(one)
    for again in (one, one / "cuts.jsonl.gz", f"{one}/../one", tmp_path / "link"):
        with pytest.raises(UserError, match="every utterance would count twice: give it once") as refused:
            resolve_cuts("data", f"{one},{two},{again}")
        assert str(refused.value).startswith(f"data='{again}': ")
        assert len(list(resolve_cuts("train", f"{one},{two},{again}", repeated=True).cuts)) == 3
    assert len(list(resolve_cuts("data", [one, two]).cuts)) == 2
    table = put(tmp_path / "three", csv="file_name,text\na.wav,x\n")
    record(table / "a.wav")
    with pytest.raises(UserError, match="is the same set as"):
        resolve_cuts("data", [table, table / "metadata.csv"])


def test_a_recording_in_place_of_a_set_is_named_as_one(tmp_path):
    record(tmp_path / "clip.flac")
    with pytest.raises(UserError, match=r"clip.flac': this is a recording: give a table .* \(trimbre transcribe"):
        read_cuts(tmp_path / "clip.flac")


@pytest.mark.parametrize("damaged", ["missing", "garbage", "empty"])
def test_a_file_in_a_hundred_may_be_unreadable(tmp_path, damaged):
    folder = put(tmp_path, csv="file_name,text\n" + "".join(f"{n}.wav,text {n}\n" for n in range(100)))
    for n in range(99):
        record(folder / f"{n}.wav", seconds=0.05)
    if damaged != "missing":
        (folder / "99.wav").write_bytes(b"" if damaged == "empty" else b"no audio at all" * 9)
    cuts = list(read_cuts(folder))
    assert [transcript_of(cut) for cut in cuts] == [f"text {n}" for n in range(100)]
    assert sum(len(load_cut(cut)) for cut in cuts[:99]) == 99 * 0.05 * 16_000
    with pytest.raises(UserError, match=r"99\.wav"):
        load_cut(cuts[99])
    (folder / "98.wav").unlink()
    with pytest.raises(UserError, match=r"metadata\.csv, line (100|101): .*9[89]\.wav.*\(2 of 100 utterances"):
        read_cuts(folder)
