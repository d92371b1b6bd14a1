"""Writing whole or not at all: what stood there stays until what replaces it is complete."""

import copy
import json
import os
from pathlib import Path

import pytest
from helpers.pipes import through_a_pipe

from trimbre.errors import UserError
from trimbre.files import (
    NoRoom,
    cache_folder,
    directory_written_whole,
    refuse_existing,
    refuse_file,
    write_json,
    written_whole,
)


def everything_under(folder):
    return {str(p.relative_to(folder)): p.read_text() if p.is_file() else None for p in folder.rglob("*")}


def test_a_file_takes_its_place_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        with written_whole(path) as beside:
            beside.write_text(text)
            assert path.exists() is (text == "second")
        assert everything_under(path.parent) == {"file.txt": text}


def test_a_directory_takes_its_place_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "model"
    for name in ("first", "second"):
        with directory_written_whole(path) as beside:
            (beside / name).write_text(name)
            assert path.exists() is (name == "second")
        assert everything_under(path.parent) == {"model": None, f"model/{name}": name}
    assert path.stat().st_mode & 0o755 == 0o755  # others may read it, though temporary directories are private


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [True, False])
def test_a_failure_leaves_what_stood_there_and_nothing_else(tmp_path, failure, before):
    file, folder = tmp_path / "file.txt", tmp_path / "folder"
    if before:
        file.write_text("kept")
        folder.mkdir()
        (folder / "inside").write_text("kept")
    found = everything_under(tmp_path)

    def half_a_file():
        with written_whole(file) as beside:
            beside.write_text("half")
            raise failure

    def half_a_directory():
        with directory_written_whole(folder) as beside:
            (beside / "half").write_text("half")
            raise failure

    for attempt in (half_a_file, half_a_directory):
        with pytest.raises(failure):
            attempt()
        assert everything_under(tmp_path) == found


def test_a_directory_comes_back_if_its_successor_cannot_take_its_place(tmp_path, monkeypatch):
    from trimbre import files

    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inside").write_text("kept")
    rename = files.os.replace

    def refuse(source, place):
        if place == folder and source.suffix == ".part":
            raise OSError("the disk is gone")
        rename(source, place)

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(OSError, match="the disk is gone"), directory_written_whole(folder) as beside:
        (beside / "new").write_text("new")
    assert everything_under(tmp_path) == {"folder": None, "folder/inside": "kept"}


def test_json_that_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "numbers.json"
    write_json(path, {"a": [1, "é"]})
    assert json.loads(path.read_text()) == {"a": [1, "é"]}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": [1, "é"]}
    assert list(tmp_path.iterdir()) == [path]


def test_paths_may_be_strings(tmp_path):
    write_json(f"{tmp_path}/numbers.json", [1])
    with written_whole(f"{tmp_path}/file.txt") as beside:
        beside.write_text("text")
    with directory_written_whole(f"{tmp_path}/folder") as beside:
        (beside / "inside").write_text("text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt", "folder", "numbers.json"]
    with pytest.raises(UserError, match="already exists"):
        refuse_existing(f"{tmp_path}/folder")


def test_an_error_survives_the_way_from_another_process(tmp_path):
    error = NoRoom(tmp_path, "the disk is full")
    for other in (through_a_pipe(error), copy.copy(error)):
        assert (str(other), other.reason) == (str(error), "the disk is full")


def test_only_an_earlier_output_of_its_kind_gives_its_place_away(tmp_path):
    out = tmp_path / "out"
    refuse_existing(out, mark="export.json")
    out.mkdir()
    (out / "mine.txt").write_text("a year's work")
    with pytest.raises(UserError, match=r"^out='.*out': it already exists: name another folder or remove it$"):
        refuse_existing(out, mark="export.json")
    (out / "export.json").write_text("{}")
    refuse_existing(out, mark="export.json")
    for mark in (None, "comparison.json"):
        with pytest.raises(UserError, match="already exists"):
            refuse_existing(out, mark=mark)
    with pytest.raises(UserError, match="already exists"):
        refuse_existing(out / "mine.txt")


def write(out) -> None:
    refuse_existing(out)
    with directory_written_whole(out) as beside:
        (beside / "new").write_text("new")


def fail(out) -> None:
    def stopped():
        with directory_written_whole(out) as beside:
            (beside / "half").write_text("half")
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        stopped()


def test_an_empty_directory_is_filled_and_stays_empty_on_failure(tmp_path):
    (tmp_path / "out").mkdir()
    fail(tmp_path / "out")
    assert everything_under(tmp_path) == {"out": None}
    write(tmp_path / "out")
    assert everything_under(tmp_path) == {"out": None, "out/new": "new"}


@pytest.mark.parametrize("way", ["the working directory", "a mounted volume", "a link"])
def test_an_empty_directory_that_cannot_be_replaced_is_filled_from_within(tmp_path, monkeypatch, way):
    out = tmp_path / "out[1]"
    out.mkdir()
    given = out
    if way == "the working directory":
        monkeypatch.chdir(out)
        given = "."
    elif way == "a mounted volume":
        monkeypatch.setattr(os.path, "ismount", lambda path: path == out)
    else:
        given = tmp_path / "link"
        given.symlink_to(out)
    own = out.stat().st_ino
    fail(given)
    assert everything_under(out) == {}
    left = out / f".{'link' if way == 'a link' else out.name}.abc.part"  # of a process that was killed
    left.mkdir()
    write(given)
    assert everything_under(out) == {"new": "new", left.name: None}
    assert out.stat().st_ino == own


def test_folders_on_the_way_go_again_on_failure(tmp_path):
    fail(tmp_path / "a/b/out")
    with pytest.raises(TypeError):
        write_json(tmp_path / "a/b/numbers.json", object())
    assert everything_under(tmp_path) == {}


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "model/sub").mkdir(parents=True)
    (tmp_path / "model/config.json").write_text("{}")
    found = everything_under(tmp_path)
    for out, said in (
        (tmp_path / "file", "it already exists and is a file: name a folder to write"),
        (tmp_path / "file/out", f"{tmp_path}/file is a file: name another folder"),
        ("/proc/none/out", "it cannot be written ("),
        (tmp_path / ("x" * 300), "it cannot be written (File name too long)"),
        (tmp_path / "model/out", f"it lies in the directory of the model {tmp_path}/model: name one outside it"),
        (tmp_path / "model/sub", "it lies in the directory of the model"),
    ):
        with pytest.raises(UserError) as refused:
            refuse_existing(out, model=str(tmp_path / "model"))
        assert str(refused.value).startswith(f"out='{out}': {said}"), out
    refuse_existing(tmp_path / "models/out", model=tmp_path / "model")
    refuse_existing(tmp_path / "model-half", model=tmp_path / "model")
    assert everything_under(tmp_path) == found


def test_a_file_of_another_kind_is_not_written_over(tmp_path):
    def only_tables(path):
        if path.read_text() != "a table":
            raise UserError("no table")

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "table.json").write_text("a table")
    for name in ("table.json", "new.json", "new/folder/table.json"):
        refuse_file(tmp_path / name, "table", replaceable=only_tables)
    for out, said in (
        (tmp_path, "it is a folder: name a file in it"),
        (tmp_path / "config.json", "it exists and is of another kind: name another file"),
        (tmp_path / "config.json/table.json", f"{tmp_path}/config.json is a file: name another folder"),
        (Path("/proc/none/table.json"), "it cannot be written ("),
    ):
        with pytest.raises(UserError) as refused:
            refuse_file(out, "table", replaceable=only_tables)
        assert str(refused.value).startswith(f"table='{out}': {said}"), out


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    for name in ("TRIMBRE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(UserError, match="TRIMBRE_CACHE"):
        cache_folder()
