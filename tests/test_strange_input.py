"""Whatever stands in the files that people bring, it's read or refused in one sentence: never a traceback."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from helpers.mini_recogniser import clips
from helpers.tones import corpus_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from trimbre.cli import run
from trimbre.config import TrainConfig
from trimbre.data.cuts import MANIFEST, read_cuts
from trimbre.data.folder import folder as bring
from trimbre.errors import UserError
from trimbre.plan import Plan
from trimbre.training.from_scratch import build

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=8),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> dict:
    """A cut as it stands in a manifest."""
    folder = corpus_of(tmp_path_factory.mktemp("whole"), clips(0.3), ["a"])
    return json.loads(gzip.decompress((folder / MANIFEST).read_bytes()))


def refused_or_read(read, *places: Path) -> None:
    """Read without an exception, or with a sentence that names one of the places."""
    said = None
    try:
        read()
    except UserError as error:
        said = str(error)
    assert said is None or any(str(place) in said for place in places)


def parts(value, path=()):
    """Where in nested data something stands."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from parts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from parts(inner, (*path, index))


def replaced(value, path, new):
    """The same data with something else at `path`."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@quick
@given(data=some.data())
def test_a_manifest_with_anything_in_a_cut(tmp_path, cut, data):
    path = data.draw(some.sampled_from(list(parts(cut))))
    manifest = tmp_path / "mine.jsonl"
    manifest.write_text(json.dumps(replaced(cut, path, data.draw(VALUES))) + "\n")
    refused_or_read(lambda: list(read_cuts(manifest)), manifest)


@quick
@given(content=some.binary(max_size=200), name=some.sampled_from(["mine.jsonl", "mine.jsonl.gz"]))
def test_a_manifest_of_any_bytes(tmp_path, content, name):
    manifest = tmp_path / name
    manifest.write_bytes(content)
    refused_or_read(lambda: list(read_cuts(manifest)), manifest)


@quick
@given(data=some.data())
def test_metadata_of_any_content(tmp_path, data):
    folder = corpus_of(tmp_path / "folder", clips(0.3), ["a"])
    (folder / MANIFEST).unlink(missing_ok=True)
    for old in folder.glob("metadata.*"):
        old.unlink()
    metadata = folder / data.draw(some.sampled_from(["metadata.csv", "metadata.tsv", "metadata.jsonl"]))
    row = some.dictionaries(some.sampled_from(["file_name", "text", "transcription", "other"]), VALUES, max_size=4)
    named = some.sampled_from([b'file_name,text\naudio/0.flac,"', b"file_name\n..\n", b"file_name,text\n,\n"])
    cell = some.sampled_from(["file_name", "text", "a.wav", "0", "audio/0.flac", '"', '""', "x y", "..", " ", ""])
    line = some.lists(cell | some.text(max_size=4), max_size=4)
    byhand = some.tuples(some.sampled_from(",;\t|"), some.lists(line, max_size=4)).map(
        lambda made: "\n".join(["file_name,text".replace(",", made[0]), *map(made[0].join, made[1])]).encode()
    )
    rows = row.map(lambda one: json.dumps(one).encode() + b"\n")
    metadata.write_bytes(data.draw(some.binary(max_size=100) | rows | named | byhand))
    refused_or_read(lambda: list(read_cuts(folder)), metadata)
    refused_or_read(lambda: bring(source=folder, out=tmp_path / "out"), folder)
    made = tmp_path / "out"
    if made.exists():
        for file in sorted(made.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        made.rmdir()


@quick
@given(data=some.data())
def test_a_model_config_with_anything_in_it(tmp_path, data):
    sensible = {"model_type": "parakeet_ctc", "vocab_size": 24, "encoder_config": {"hidden_size": 8}}
    tiny = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "subsampling_conv_channels": 4}
    sensible["encoder_config"] |= tiny | {"num_mel_bins": 16}
    path = data.draw(some.sampled_from(list(parts(sensible))))
    small = VALUES.filter(lambda value: not isinstance(value, int | float) or abs(value) < 64)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(replaced(sensible, path, data.draw(small))))
    empty = read_cuts(corpus_of(tmp_path / "c", [], []))
    with torch.device("meta"):  # what is left out of a config is as large as in the largest of models
        refused_or_read(lambda: build(config, empty, TrainConfig()), config)


@quick
@given(data=some.data())
def test_a_plan_with_anything_in_it(tmp_path, data):
    sensible = Plan({"a": 3, "b": 2}, {"a": (0, 2), "b": ()}, frozenset({"b"})).to_json()
    path = data.draw(some.sampled_from(list(parts(sensible))))
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(replaced(sensible, path, data.draw(VALUES))))
    refused_or_read(lambda: Plan.load(plan), plan)


@quick
@given(words=some.lists(some.text(max_size=10) | some.sampled_from(["prune", "train", "--json", "--out"]), max_size=4))
def test_a_command_line_of_any_words(words, capsys):
    code = run(words)
    assert code in (0, 2)
    if code == 2:
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("trimbre: ")
