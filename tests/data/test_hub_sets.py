"""Data sets of Hugging Face, in local folders that its library streams as it does those of the Hub."""

import io
import json
import os
import socket
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor
from huggingface_hub import HfApi

from trimbre.data.audio import load_cut
from trimbre.data.cuts import read_cuts, transcript_of
from trimbre.data.hub_sets import SETS, TABLE, hub_set
from trimbre.errors import OptionError, UserError
from trimbre.evaluation.score import score

datasets = pytest.importorskip("datasets")
arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

TEXTS = ["bad bee", "a cab", ""]


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("TRIMBRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def encoded(clip: np.ndarray, kind: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, clip / 8, 16000, format=kind, subtype="PCM_16")
    return file.getvalue()


CLIPS = clips(0.5, 0.7, 0.9)


def write_parquet(place, *, audio="audio", features=None, split="test", **columns):
    """A split as the Hub has it, with the types of `datasets` in its metadata."""
    sounds = [{"bytes": encoded(clip), "path": f"{n}.flac"} for n, clip in enumerate(CLIPS)]
    table = arrow.table({audio: sounds, **columns})
    types = {audio: {"_type": "Audio"}} | {name: {"dtype": "string", "_type": "Value"} for name in columns}
    told = json.dumps({"info": {"features": types | (features or {})}})
    (place / "data").mkdir(parents=True, exist_ok=True)
    parquet.write_table(
        table.replace_schema_metadata({"huggingface": told}), place / f"data/{split}-00000-of-00001.parquet"
    )


def test_a_split_in_parquet_is_read_as_it_was_written(tmp_path):
    write_parquet(
        tmp_path / "set",
        text=TEXTS,
        speaker_id=["1", "2", "2"],
        lang=[1, 0, 1],
        features={"lang": {"_type": "ClassLabel", "names": ["de", "en"]}},
    )
    cuts = list(read_cuts("hf:set"))
    assert [transcript_of(cut) for cut in cuts] == TEXTS
    assert [cut.supervisions[0].language for cut in cuts] == ["en", "de", "en"]
    assert [cut.supervisions[0].speaker for cut in cuts] == ["1", "2", "2"]
    for cut, clip in zip(cuts, CLIPS, strict=True):
        assert np.abs(load_cut(cut) - clip / 8).max() < 1e-4
    named = read_cuts("hf:set:default:test,hf:set::test")
    assert len(list(named)) == 6


def test_an_audio_folder_is_read_the_same(tmp_path):
    (tmp_path / "set/test").mkdir(parents=True)
    rows = []
    for number, clip in enumerate(CLIPS):
        (tmp_path / f"set/test/{number}.wav").write_bytes(encoded(clip, "WAV"))
        rows.append(json.dumps({"file_name": f"{number}.wav", "sentence": TEXTS[number]}))
    (tmp_path / "set/test/metadata.jsonl").write_text("\n".join(rows))
    found = score(model=mini_parakeet(), processor=mini_processor(), data="hf:set::test")
    plain = score(model=mini_parakeet(), processor=mini_processor(), data=str(tmp_path / "set/test"))
    assert found.references == plain.references
    assert found.hypotheses == plain.hypotheses
    assert found.seconds == plain.seconds


def test_columns_by_other_names_are_asked_for(tmp_path):
    write_parquet(tmp_path / "set", audio="speech", said=TEXTS, wrong=["x"] * 3)
    with pytest.raises(OptionError, match=r"^data='hf:set': it has no known column of transcripts \(columns: speech, "):
        read_cuts("hf:set")
    with pytest.raises(OptionError, match=r"no column heading of transcripts .*: name it, hf:set:text=COLUMN$"):
        read_cuts("hf:set:text=heading")
    assert [transcript_of(cut) for cut in read_cuts("hf:set:text=said")] == TEXTS
    assert [transcript_of(cut) for cut in read_cuts("hf:set::test:text=said:audio=speech")] == TEXTS
    with pytest.raises(OptionError, match=r"no column said of audio"):
        read_cuts("hf:set:text=said:audio=said")


def test_columns_that_differ_are_asked_for(tmp_path):
    write_parquet(tmp_path / "set", text=TEXTS, raw_text=["Bad bee!", "A cab.", ""])
    assert [transcript_of(cut) for cut in read_cuts("hf:set")] == TEXTS
    write_parquet(tmp_path / "other", text=TEXTS, sentence=["bad bee", "a cab", "uh"])
    with pytest.raises(UserError, match=r"^hf:other, row 3: text and sentence have different texts, name one: "):
        read_cuts("hf:other")
    assert transcript_of(list(read_cuts("hf:other:text=sentence"))[2]) == "uh"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("hf:set", "it has the splits train, test: name one, such as hf:set::test"),
        ("hf:set::dev", "does not read it .*Available splits"),
        ("hf:set::dev", r"does not read it \(Bad split: dev; Available splits: .'train', 'test'.\)$"),
        ("hf:set:other:test", "does not read it .*'other' not found"),
        ("hf:nothing", "give hf:OWNER/NAME:CONFIG:SPLIT"),
        ("hf:set:a:b:c", "give hf:OWNER/NAME:CONFIG:SPLIT"),
        ("hf:", "give hf:OWNER/NAME:CONFIG:SPLIT"),
        ("hf:text=said", "give hf:OWNER/NAME:CONFIG:SPLIT"),
        ("hf:set::test:words=said", "give hf:OWNER/NAME:CONFIG:SPLIT"),
        ("open-asr:librispeech", "the leaderboard's sets are ami, .* librispeech-clean, "),
    ],
)
def test_what_is_no_name_is_said_in_a_sentence(given, said, tmp_path):
    for split in ("train", "test"):
        write_parquet(tmp_path / "set", split=split, text=TEXTS)
    with pytest.raises(OptionError, match=f"^data='{given}': {'.*' if said.startswith('does') else ''}{said}"):
        read_cuts(given)


def test_the_configurations_to_choose_from_are_said(tmp_path):
    configs = [{"config_name": name, "data_files": f"{name}/*.parquet"} for name in ("de", "en")]
    for config in configs:
        write_parquet(tmp_path / "set", text=TEXTS)
        (tmp_path / "set/data").rename(tmp_path / "set" / config["config_name"])
    (tmp_path / "set/README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    with pytest.raises(OptionError, match=r"does not read it \(Config name is missing; .* configs: .'de', 'en'.\)$"):
        read_cuts("hf:set")
    assert [transcript_of(cut) for cut in read_cuts("hf:set:en")] == TEXTS


def test_a_name_as_the_hub_writes_it_and_a_folder_that_is_called_so(tmp_path):
    for given in ("hf:owner/name", "hf:datasets/owner/name", "hf://datasets/owner/name"):
        assert hub_set(f"{given}:de:test").repository == "owner/name"
    write_parquet(tmp_path / "datasets/mine", text=TEXTS)
    assert [transcript_of(cut) for cut in read_cuts("hf:datasets/mine")] == TEXTS


def test_a_path_that_is_there_comes_first(tmp_path):
    (tmp_path / "hf:set").mkdir()
    with pytest.raises(OptionError, match="this folder holds neither"):
        read_cuts("hf:set")


def test_audio_of_this_machine_is_refused(tmp_path):
    outside = tmp_path / "secret.wav"
    outside.write_bytes(encoded(CLIPS[0], "WAV"))
    sounds = [{"bytes": None, "path": str(outside)}]
    (tmp_path / "set").mkdir()
    parquet.write_table(arrow.table({"audio": sounds, "text": ["a"]}), tmp_path / "set/test.parquet")
    with pytest.raises(UserError, match=r"hf:set::test, row 1: .*secret\.wav"):
        read_cuts("hf:set::test")


@pytest.fixture
def hub(monkeypatch):
    """A Hub with the data set owner/set, which is the folder `set`; what was loaded from it."""
    load, loaded = datasets.load_dataset, []

    def from_hub(repository, config, *, revision, **more):
        loaded.append((repository, revision))
        return load("set", config, **more)

    monkeypatch.setattr(datasets, "load_dataset", from_hub)
    monkeypatch.setattr(HfApi, "dataset_info", lambda *rest, **more: SimpleNamespace(sha="c" * 40))
    return loaded


def test_a_set_of_the_hub_is_fetched_once_at_its_commit(hub, tmp_path):
    write_parquet(tmp_path / "set", text=TEXTS)
    for _ in range(2):
        cuts = list(read_cuts("hf:owner/set::test"))
        assert [transcript_of(cut) for cut in cuts] == TEXTS
        for cut, clip in zip(cuts, CLIPS, strict=True):
            assert np.abs(load_cut(cut) - clip / 8).max() < 1e-4
    assert hub == [("owner/set", "c" * 40)]
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_set_of_the_hub_may_not_name_audio_of_this_machine(hub, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/own.wav").write_bytes(encoded(CLIPS[0], "WAV"))
    sounds = [{"bytes": None, "path": str(tmp_path / "set/own.wav")}]
    parquet.write_table(arrow.table({"audio": sounds, "text": ["a"]}), tmp_path / "set/test.parquet")
    with pytest.raises(OptionError, match=r"^allow_outside=False: .*, row 1: the audio is .*own\.wav, a file of this"):
        read_cuts("hf:owner/set::test")
    assert not list((tmp_path / "cache").rglob("*.wav"))


def no_network(*rest, **more):
    raise OSError("no network")


def test_a_set_that_was_fetched_is_read_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(OptionError, match=r"^data='open-asr:ami': the Hub cannot be reached .* was not fetched before"):
        read_cuts("open-asr:ami")
    for age, (commit, text) in enumerate((("b" * 40, "new"), ("a" * 40, "old"))):
        folder = tmp_path / "cache/datasets" / hub_set("open-asr:ami").folder_name(commit)
        folder.mkdir(parents=True)
        (folder / "1.flac").write_bytes(encoded(CLIPS[0]))
        (folder / TABLE).write_text(json.dumps({"file_name": "1.flac", "text": text, "language": "en"}))
        os.utime(folder, (1e9 - age, 1e9 - age))
    assert [transcript_of(cut) for cut in read_cuts("open-asr:ami")] == ["new"]
    with pytest.raises(OptionError, match="not fetched before"):
        read_cuts("open-asr:voxpopuli")


def test_every_set_of_the_leaderboard_has_its_own_place():
    found = [hub_set(f"open-asr:{word}") for word in SETS]
    assert len({one.folder_name("0" * 40) for one in found}) == len(SETS)
    assert {one.language for one in found} == {"en"}
    assert hub_set("data/test") is None
