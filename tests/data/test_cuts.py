"""Manifests, folders and cuts in memory, and the errors of those that cannot be read."""

import gzip
import json
import re

import numpy as np
import pytest
import soundfile
from helpers.tones import corpus_of, level, pitch, tone
from lhotse import SupervisionSegment
from lhotse.cut import MixedCut
from lhotse.utils import fastcopy

from trimbre.data.audio import load_cut
from trimbre.data.cuts import MANIFEST, read_cuts, transcript_of, write_cuts
from trimbre.data.language import language_of
from trimbre.errors import UserError

CUT = {"type": "MonoCut", "id": "a", "start": 0, "duration": 1.0, "channel": 0}


@pytest.fixture
def folder(tmp_path):
    """Three tones with transcripts, and one without."""
    return corpus_of(tmp_path / "made", [tone(hertz, 0.3) for hertz in (300, 500, 700, 900)], ["a", "b é", "c", None])


def pitches(cuts) -> list[float]:
    """What is read, in Hz."""
    return [pitch(load_cut(cut)) for cut in cuts]


def test_a_manifest_is_found_by_its_name_or_its_folder_and_stays_with_its_audio(folder, tmp_path, monkeypatch):
    plain = folder / "plain.jsonl"
    plain.write_bytes(gzip.decompress((folder / MANIFEST).read_bytes()))
    for path in (folder, folder / MANIFEST, plain, str(folder)):
        assert pitches(read_cuts(path)) == [300, 500, 700, 900]
    folder.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    for path in ("moved", f"moved/{MANIFEST}", tmp_path / "moved/plain.jsonl"):
        cuts = read_cuts(path)
        assert pitches(cuts) == [300, 500, 700, 900]
        assert [cut.supervisions[0].text if cut.supervisions else None for cut in cuts] == ["a", "b é", "c", None]
    monkeypatch.chdir(tmp_path / "moved")
    cuts = list(read_cuts("plain.jsonl"))
    monkeypatch.chdir(tmp_path)
    assert pitches(cuts) == [300, 500, 700, 900]


def test_absolute_paths_into_the_folder_are_written_as_relative_ones(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere.flac"
    elsewhere.write_bytes((folder / "audio/3.flac").read_bytes())
    cuts = list(read_cuts(folder))  # reading has made them absolute
    cuts[3].recording.sources[0].source = str(elsewhere)
    write_cuts(cuts, folder)
    folder.rename(tmp_path / "moved")
    assert pitches(read_cuts(tmp_path / "moved", allow_outside=True)) == [300, 500, 700, 900]


@pytest.mark.parametrize("way", ["absolute", "upward", "a link", "a linked folder", "..", "metadata"])
def test_audio_outside_the_folder_must_be_allowed(folder, tmp_path, way):
    secret = tmp_path / "secret/own.flac"
    secret.parent.mkdir()
    secret.write_bytes((folder / "audio/0.flac").read_bytes())
    (folder / "link.flac").symlink_to(secret)
    (folder / "linked").symlink_to(secret.parent)
    names = {
        "absolute": str(secret),
        "upward": "audio/../../secret/own.flac",
        "a link": "link.flac",
        "a linked folder": "linked/own.flac",
        "..": "..",
        "metadata": "../secret/own.flac",
    }
    if way == "metadata":
        place = tmp_path / "mine"
        place.mkdir()
        (place / "metadata.csv").write_text(f"file_name,text\n{names[way]},hello\n")
        culprit = place / "metadata.csv"
    else:
        (first, *_) = read_cuts(folder)
        data = first.to_dict()
        data["recording"]["sources"][0]["source"] = names[way]
        place = culprit = folder / "mine.jsonl"
        culprit.write_text(json.dumps(data) + "\n")
    with pytest.raises(UserError, match=rf"^allow_outside=False: {culprit}, line [12]: the audio .* lies outside"):
        list(read_cuts(place))
    if way != "..":
        assert pitches(read_cuts(place, allow_outside=True)) == [300]


def test_a_link_within_the_folder_is_no_way_out(folder, tmp_path):
    (folder / "again.flac").symlink_to("audio/1.flac")
    (first, *_) = read_cuts(folder)
    data = first.to_dict()
    data["recording"]["sources"][0]["source"] = "again.flac"
    (folder / "mine.jsonl").write_text(json.dumps(data) + "\n")
    (tmp_path / "seen").symlink_to(folder)  # the folder itself may be reached by a link
    assert pitches(read_cuts(tmp_path / "seen/mine.jsonl")) == [500]


def test_tracks_of_a_mixed_cut_are_found_beside_the_manifest_too(folder, tmp_path):
    first, second, *_ = read_cuts(folder)
    mixed = first.append(second)
    assert isinstance(mixed, MixedCut)
    text = json.dumps(mixed.to_dict()).replace(f"{folder}/", "")
    assert str(tmp_path) not in text
    (folder / "mixed.jsonl").write_text(text)
    (cut,) = read_cuts(folder / "mixed.jsonl")
    clip = load_cut(cut)
    assert [pitch(clip[:4800]), pitch(clip[4800:])] == [300, 500]


def test_a_manifest_is_read_again_at_every_pass(folder):
    cuts = read_cuts(folder)
    assert cuts.is_lazy
    assert [len(list(cuts)), len(list(cuts))] == [4, 4]
    with gzip.open(folder / MANIFEST, "rt") as file:
        first = file.readline()
    with gzip.open(folder / MANIFEST, "wt") as file:
        file.write(first + "\n\n")
    assert [cut.id for cut in cuts] == ["0"]


@pytest.mark.parametrize("column", ["text", "transcription"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_audio_folder(tmp_path, suffix, column):
    (tmp_path / "sub").mkdir()
    soundfile.write(tmp_path / "a.wav", np.stack([tone(300, 0.5, 8000), np.zeros(4000)], axis=1), 8000)
    soundfile.write(tmp_path / "sub/b.flac", tone(600, 0.5, 44_100), 44_100)
    rows = [{"file_name": "a.wav", column: "hello, you"}, {"file_name": "sub/b.flac", column: "7"}]
    if suffix == "csv":  # as a spreadsheet writes it, with a byte order mark
        lines = [f"file_name,{column}", *(f'{row["file_name"]},"{row[column]}"' for row in rows)]
        (tmp_path / "metadata.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    else:
        lines = [json.dumps(row) for row in rows]
        (tmp_path / "metadata.jsonl").write_text("\n".join(lines) + "\n\n")
    cuts = read_cuts(tmp_path)
    assert [cut.supervisions[0].text for cut in cuts] == ["hello, you", "7"]
    assert pitches(cuts) == [300, 600]
    assert level(load_cut(next(iter(cuts)))) == pytest.approx(0.25 / np.sqrt(2), rel=0.01)


def test_audio_folder_without_transcripts(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(300, 0.1, 8000), 8000)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.wav", "text": null}\n{"file_name": "a.wav"}')
    assert [cut.supervisions for cut in read_cuts(tmp_path)] == [[]]  # listed twice, it is read once


def test_several_are_joined_by_commas_and_read_again(folder, tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(800, 0.5, 8000), 8000)
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,x\n")
    joined = read_cuts(f"{folder}, {tmp_path},{folder / MANIFEST},")
    assert pitches(joined) == [300, 500, 700, 900, 800, 300, 500, 700, 900]
    assert len(list(joined)) == 9
    assert pitches(read_cuts(f"{tmp_path},{tmp_path}")) == [800, 800]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "3",
        "{}",
        '{"type": "Shape", "id": "a"}',
        '{"audio_filepath": "a.wav", "duration": 1, "text": "another toolkit\'s manifest"}',
        '{"id": "a", "recording_id": "a", "start": 0, "duration": 1}',  # a supervision
        json.dumps(CUT),  # without a recording
        json.dumps(CUT | {"recording": {"id": "a", "sources": [{}]}}),
        '{"type": "MixedCut", "id": "a", "tracks": []}',
    ],
)
def test_a_bad_line_is_named(folder, line):
    good = gzip.decompress((folder / MANIFEST).read_bytes()).decode().splitlines()[0]
    path = folder / "bad.jsonl"
    path.write_text(f"{good}\n\n{line}\n")
    with pytest.raises(UserError, match=re.escape(f"{path}, line 3: not a cut that lhotse reads")) as refused:
        list(read_cuts(path))
    assert "\n" not in str(refused.value)


def test_a_cut_without_length_is_a_bad_line(folder):
    data = next(iter(read_cuts(folder))).to_dict()
    (folder / "bad.jsonl").write_text(json.dumps(data | {"duration": 0.0}))
    with pytest.raises(UserError, match="line 1"):
        list(read_cuts(folder / "bad.jsonl"))


def test_damaged_files_are_named(folder):
    whole = (folder / MANIFEST).read_bytes()
    damaged = {
        "cut-off.jsonl.gz": whole[:-30],
        "spoiled.jsonl.gz": whole[:20] + b"\xff" * (len(whole) - 40) + whole[-20:],
        "other.jsonl.gz": b"no gzip",
        "latin.jsonl": "é".encode("latin-1"),
    }
    for name, content in damaged.items():
        (folder / name).write_bytes(content)
        with pytest.raises(UserError, match=re.escape(str(folder / name))) as refused:
            list(read_cuts(folder / name))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ('{"file_name": "a.wav"}\nnonsense', "metadata.jsonl, line 2: not JSON"),
        ("3", "metadata.jsonl, line 1: not an object"),
        ('{"place": "a.wav", "text": "x"}', "metadata.jsonl, line 1: no file_name (columns: place, text)"),
        ('{"file_name": "gone.wav"}', "metadata.jsonl, line 1: no audio file"),
        ('{"file_name": "a.wav"}\n{"file_name": "text.wav"}', "metadata.jsonl, line 2: cannot decode"),
    ],
)
def test_a_bad_row_of_metadata_is_named(tmp_path, metadata, complaint):
    soundfile.write(tmp_path / "a.wav", tone(300, 0.1, 8000), 8000)
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "metadata.jsonl").write_text(metadata)
    with pytest.raises(UserError, match=re.escape(complaint)) as refused:
        read_cuts(tmp_path)
    assert "\n" not in str(refused.value)


def test_what_is_no_data_is_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("a")
    complaints = {
        "missing.jsonl": "there is no such file",
        "a.txt": "the name of a manifest or table should end in one of .jsonl, .jsonl.gz, .csv, .tsv",
        "empty": "holds neither cuts.jsonl.gz nor shards nor metadata.csv nor metadata.tsv nor metadata.jsonl",
    }
    for name, complaint in complaints.items():
        with pytest.raises(UserError, match=re.escape(complaint)) as refused:
            read_cuts(tmp_path / name)
        assert str(tmp_path / name) in str(refused.value)
    with pytest.raises(UserError, match=r"^train=' , ': give the path of a manifest or a folder$"):
        read_cuts(" , ", option="train")


def test_cuts_in_memory_are_taken_as_they_are(folder):
    cuts = read_cuts(folder)
    assert read_cuts(cuts) is cuts
    for given in (list(cuts), tuple(cuts), list(cuts) + list(cuts)[:1]):
        assert pitches(read_cuts(given)) == [pitch(load_cut(cut)) for cut in given]
        assert len(list(read_cuts(given))) == len(given)
    assert list(read_cuts([])) == []


def test_what_is_no_sequence_of_cuts_is_refused_by_its_option(folder):
    first, *_ = read_cuts(folder)
    for given, message in (
        (3, "train=<class 'int'>: give a path, a CutSet of lhotse or a sequence"),
        (iter([first]), "train=<class 'list_iterator'>: give a path"),  # it could be read only once
        ([first, "a.wav"], "train=<class 'str'>: item 1 is no lhotse cut"),
        ([fastcopy(first, recording=None)], "item 0 is no lhotse cut with a recording"),
    ):
        with pytest.raises(UserError, match=message):
            read_cuts(given, option="train")


def test_a_manifest_that_could_not_be_finished_is_not_there(folder):
    def broken():
        yield from read_cuts(folder)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_cuts(broken(), folder / "new")
    assert not (folder / "new").exists()


leaves_open = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""lhotse closes its archives when they are collected."""


@pytest.fixture
def shards(folder, tmp_path):
    """The same corpus in lhotse's Shar form, two utterances a shard."""
    out = tmp_path / "shards"
    out.mkdir()
    read_cuts(folder).to_shar(out, fields={"recording": "flac"}, shard_size=2)
    return out


@leaves_open
def test_shards_are_read_again_at_every_pass(folder, shards):
    plain = {cut.id: (transcript_of(cut), load_cut(cut)) for cut in read_cuts(folder)}
    assert len(list(shards.glob("*.tar"))) > 1
    cuts = read_cuts(shards)
    for _ in range(2):
        found = {cut.id: (transcript_of(cut), load_cut(cut)) for cut in cuts}
        assert found.keys() == plain.keys()
        for name, (text, clip) in found.items():
            assert text == plain[name][0]
            np.testing.assert_allclose(clip, plain[name][1], atol=1e-4)


@leaves_open
def test_damaged_shards_are_named(shards):
    tar = sorted(shards.glob("*.tar"))[0]
    whole = tar.read_bytes()
    tar.write_bytes(whole[:700])
    with pytest.raises(UserError, match=f"cannot read the shards of {shards}"):
        list(read_cuts(shards))
    tar.unlink()
    with pytest.raises(UserError, match=f"{shards} lacks {tar.name}"):
        list(read_cuts(shards))


def test_a_manifest_runs_no_command_unless_it_is_trusted(folder, tmp_path):
    """lhotse reads audio from the output of a shell command if the manifest says so."""
    made = tmp_path / "touched"
    cut = json.loads(gzip.decompress((folder / MANIFEST).read_bytes()).splitlines()[0])
    audio = folder / cut["recording"]["sources"][0]["source"]
    cut["recording"]["sources"][0] |= {"type": "command", "source": f"touch {made}; cat {audio}"}
    manifest = folder / "strange.jsonl"
    manifest.write_text(json.dumps(cut) + "\n")
    with pytest.raises(UserError, match=r"^allow_outside=False: .*strange.jsonl, line 1: .* from a command"):
        [load_cut(one) for one in read_cuts(manifest)]
    assert not made.exists()
    (one,) = read_cuts(manifest, allow_outside=True)
    assert len(load_cut(one))
    assert made.exists()


@leaves_open
def test_shards_run_no_command_unless_they_are_trusted(folder, shards, tmp_path):
    """Of a mixed cut, lhotse takes what the archive holds for the first track alone."""
    made = tmp_path / "touched"
    first, second, *_ = read_cuts(folder)
    cut = first.mix(second, offset_other_by=0.1).to_dict() | {"id": first.id}
    audio = cut["tracks"][1]["cut"]["recording"]["sources"][0]["source"]
    stranger = {"type": "command", "channels": [0], "source": f"touch {made}; cat {audio}"}
    cut["tracks"][1]["cut"]["recording"]["sources"] = [stranger]
    for manifest in sorted(shards.glob("cuts.*"))[1:]:
        manifest.unlink()
    lines = gzip.decompress(sorted(shards.glob("cuts.*"))[0].read_bytes()).splitlines(keepends=True)
    changed = json.dumps(cut).encode() + b"\n" + b"".join(lines[1:])
    sorted(shards.glob("cuts.*"))[0].write_bytes(gzip.compress(changed))
    with pytest.raises(
        UserError, match=f"^allow_outside=False: {shards}: the audio of {first.id} lies outside its shard"
    ):
        [load_cut(one) for one in read_cuts(shards)]
    assert not made.exists()
    [load_cut(one) for one in read_cuts(shards, allow_outside=True)]
    assert made.exists()


def test_a_cut_of_several_segments_says_all_of_them_in_order(folder):
    first, second, third, silent = read_cuts(folder)
    joined = third.append(first).append(second)
    assert transcript_of(joined) == "c a b é"
    assert transcript_of(joined.append(silent)) == "c a b é"
    assert transcript_of(silent) is None
    segment = SupervisionSegment("x", "x", 0, 0.1, text=None, language="en")
    first.supervisions = [*first.supervisions, segment]
    assert transcript_of(first) is None
    assert language_of(first) is None  # one segment says en and the other nothing
    first.supervisions = [segment]
    assert language_of(first) == "en"
