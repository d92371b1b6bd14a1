"""Models on the Hub: whatever way one is named, it is loaded as its directory would be, and its plan is read."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import dense_of
from helpers.families import FAMILIES, random_plan
from helpers.hub import Hub, serving
from helpers.mini_recogniser import clips
from helpers.tones import corpus_of
from huggingface_hub import constants

import trimbre
from trimbre.cli import run
from trimbre.errors import OptionError, UserError
from trimbre.models.checkpoint import load_plan, save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.hub import HubModel, hub_model
from trimbre.models.source import resolve_model
from trimbre.pruning.surgery import cut

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A dense recogniser and a pruned one."""
    folder, family = tmp_path_factory.mktemp("models"), FAMILIES["parakeet"]
    dense = dense_of(family)
    save(dense, family.processor(), folder / "dense")
    plan = random_plan(anatomy_of(dense), 0)
    save(cut(dense, plan), family.processor(), folder / "pruned", plan=plan)
    return folder


@pytest.fixture
def hub(models, tmp_path):
    with serving(tmp_path / "cache") as hub:
        hub.add("someone/small", models / "dense")
        hub.add("someone/small", models / "pruned", "v2")
        yield hub


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "openai/whisper-base": HubModel("openai/whisper-base"),
        "openai/whisper-base@v1.0": HubModel("openai/whisper-base", "v1.0"),
        "openai/whisper-base@refs/pr/3": HubModel("openai/whisper-base", "refs/pr/3"),
        f"openai/whisper-base@{COMMIT}": HubModel("openai/whisper-base", COMMIT),
        "https://huggingface.co/openai/whisper-base": HubModel("openai/whisper-base"),
        "https://huggingface.co/openai/whisper-base/": HubModel("openai/whisper-base"),
        "https://www.huggingface.co/openai/whisper-base?library=transformers": HubModel("openai/whisper-base"),
        "https:/huggingface.co/openai/whisper-base": HubModel("openai/whisper-base"),
        "http://hf.co/openai/whisper-base/tree/v2": HubModel("openai/whisper-base", "v2"),
        "huggingface.co/openai/whisper-base/tree/main/": HubModel("openai/whisper-base", "main"),
        "hf.co/openai/whisper-base": HubModel("openai/whisper-base"),
        "https://huggingface.co/openai/whisper-base/blob/main/config.json": HubModel("openai/whisper-base", "main"),
        "https://huggingface.co/openai/whisper-base/tree/refs%2Fpr%2F3": HubModel("openai/whisper-base", "refs/pr/3"),
        "https://huggingface.co/openai/whisper-base/tree/refs/pr/3": HubModel("openai/whisper-base", "refs/pr/3"),
        "hf://openai/whisper-base@v2": HubModel("openai/whisper-base", "v2"),
        "nothing-here": None,
        "a/b/c": None,
        "/some/where": None,
        "": None,
    }.items(),
)
def test_a_name_or_address_is_read_as_a_repository_and_its_revision(name, expected):
    assert hub_model(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "https://example.com/openai/whisper-base",
        "https://huggingface.co/openai",
        "https://huggingface.co/datasets/openslr/librispeech_asr",
        "https://huggingface.co/spaces/openai/whisper",
        "https://huggingface.co/openai/whisper-base/tree/main/onnx",
        "https://huggingface.co/openai/whisper-base/discussions/3",
    ],
)
def test_an_address_of_something_else_is_refused(name):
    with pytest.raises(UserError, match="not the address of a model"):
        hub_model(name)


def test_a_revision_is_stated_once():
    assert hub_model("a/b", "v1") == hub_model("a/b@v1", "v1") == hub_model("a/b@v1")
    with pytest.raises(OptionError, match=r"revision='v2'.*states v1"):
        hub_model("a/b@v1", "v2")
    with pytest.raises(OptionError, match=r"revision='v2'.*directory"):
        trimbre.load(Path(__file__).parent, revision="v2")


@pytest.mark.parametrize(
    "name", ["someone/small@v2", "{}/someone/small/tree/v2/", "{}/someone/small/blob/v2/plan.json"]
)
def test_a_model_on_the_hub_is_its_directory(hub, models, name):
    name = name.format(hub.endpoint)
    source = resolve_model(name)
    assert source.name == "someone/small@v2"
    assert source.plan() == load_plan(models / "pruned")
    expected = trimbre.load(models / "pruned").model.state_dict()
    found = source.recogniser.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[weight], expected[weight]) for weight in expected)


def test_the_newest_revision_is_the_default_and_only_what_is_read_is_fetched(hub, models, tmp_path):
    shutil.copytree(models / "dense", tmp_path / "more")
    for name in ("pytorch_model.bin", "model.fp32.safetensors", "adapter.deu.safetensors", "flax_model.msgpack"):
        (tmp_path / "more" / name).write_bytes(b"large")
    hub.add("someone/small", tmp_path / "more")
    assert resolve_model("someone/small").plan() is None
    assert not {"pytorch_model.bin", "model.fp32.safetensors", "adapter.deu.safetensors"} & set(hub.asked)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(hub.asked)


def test_shards_are_fetched_by_their_index(hub, models, tmp_path):
    model, processor = trimbre.load(models / "dense")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    processor.save_pretrained(tmp_path / "sharded")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    hub.add("someone/sharded", tmp_path / "sharded")
    found = trimbre.load("someone/sharded").model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


def test_one_file_of_weights_comes_before_shards(hub, models, tmp_path):
    """As in transformers, and as in a directory: an index may be left over from other weights."""
    shutil.copytree(models / "dense", tmp_path / "both")
    (tmp_path / "both" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    hub.add("someone/both", tmp_path / "both")
    found, expected = (trimbre.load(name).model.state_dict() for name in ("someone/both", models / "dense"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_second_pruning_goes_on_from_the_dense_model(hub, models, tmp_path, noise_corpus):
    first = load_plan(models / "pruned")
    config = trimbre.PruneConfig(method="magnitude", recovery=trimbre.RecoveryConfig(steps=0, refit=False))
    for given in (["someone/small@v2"], trimbre.load("someone/small", revision="v2")):
        result = trimbre.prune(*given, train=noise_corpus, remove=0.1, config=config, device="cpu")
        assert result.report["model"].startswith("someone/small@")
        assert result.plan.sizes == first.sizes
        assert all(set(kept) <= set(first.kept[path]) for path, kept in result.plan.kept.items())
        assert result.plan != first


def test_what_was_fetched_is_found_offline(hub, models, monkeypatch):
    trimbre.load("someone/small@v2")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve_model("someone/small@v2").plan() == load_plan(models / "pruned")
    with pytest.raises(UserError, match=r"someone/other is no directory here.*not in the cache.*offline"):
        trimbre.load("someone/other")


def refused(hub: Hub, name: str, capsys) -> str:
    assert run(["inspect", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_cannot_be_fetched_is_said_in_a_sentence(hub, models, tmp_path, capsys, monkeypatch):
    assert "someone/none is no directory here and no model on the Hub" in refused(hub, "someone/none", capsys)
    assert "someone/small on the Hub has no revision v9" in refused(hub, "someone/small@v9", capsys)
    hub.gated.add("someone/gated")
    hub.add("someone/gated", models / "dense")
    assert "someone/gated on the Hub is gated" in refused(hub, "someone/gated", capsys)
    shutil.copytree(models / "dense", tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    hub.add("someone/pickled", tmp_path / "pickled")
    assert "someone/pickled on the Hub has no weights in safetensors" in refused(hub, "someone/pickled", capsys)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "README.md").write_text("text")
    hub.add("someone/text", tmp_path / "text")
    assert "someone/text on the Hub holds no model" in refused(hub, "someone/text", capsys)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "a/b"}))
    hub.add("someone/adapter", tmp_path / "adapter")
    assert "someone/adapter is an adapter of a/b" in refused(hub, "someone/adapter", capsys)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nothing answers
    assert "cannot be reached: check the network" in refused(hub, "someone/new", capsys)


def test_a_model_on_the_hub_is_evaluated_and_transcribed_by_its_name(hub, tmp_path, capsys):
    data = corpus_of(tmp_path / "data", clips(0.5), ["a"])
    assert run(["eval", "someone/small@v2", "--data", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "someone/small@v2"
    assert run(["transcribe", f"{hub.endpoint}/someone/small", str(data / "audio" / "0.flac")]) == 0
