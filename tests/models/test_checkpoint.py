"""Checkpoints: a cut model comes back the same by every way in, with and without Trimbre."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import CLIP, dense_of, logits_of, newer
from helpers.families import Family, edge_plans, random_plan
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, pipeline

import trimbre
import trimbre.auto
from trimbre.errors import UserError
from trimbre.inference.greedy import greedy
from trimbre.models.checkpoint import load_plan, save
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.inputs import features_of
from trimbre.models.modeling_trimbre import FORMAT
from trimbre.pruning.surgery import cut

SOME = ("everything", "no-units", "no-modules", "random-0", "twice")
"""Checkpoints that every way in is tried with; Trimbre's own loads them all."""


@dataclass(frozen=True)
class Saved:
    """Checkpoints of one family, and what the models said before they were saved."""

    folder: Path
    family: Family
    inputs: dict[str, Tensor]
    models: dict[str, PreTrainedModel]
    """Cut models by name; each is saved in the folder of that name."""


@pytest.fixture(scope="module")
def saved(family, tmp_path_factory) -> Saved:
    folder, processor, dense = tmp_path_factory.mktemp("saved"), family.processor(), dense_of(family)
    anatomy = anatomy_of(dense)
    plans = edge_plans(anatomy) | {f"random {seed}": random_plan(anatomy, seed) for seed in range(3)}
    models = {}
    for name, plan in plans.items():
        name = name.replace(" ", "-")  # transformers makes a module's name of the folder's
        models[name] = cut(dense, plan).eval()
        save(models[name], processor, folder / name, plan=plan)
    models["twice"] = cut(models["random-0"], random_plan(anatomy_of(models["random-0"]), 9)).eval()
    save(models["twice"], processor, folder / "twice")
    example = head_of(dense).example_inputs(dense, features_of([CLIP[:9_000], CLIP], processor), 7)
    inputs = {name: value.contiguous() for name, value in example.items()}
    return Saved(folder, family, inputs, models)


def test_trimbre_loads_what_was_saved(saved):
    for name, model in saved.models.items():
        loaded, processor = trimbre.load(saved.folder / name)
        assert not loaded.training
        assert torch.equal(logits_of(loaded, saved.inputs), logits_of(model, saved.inputs)), name
        assert features_of([CLIP], processor).keys() == saved.inputs.keys() - {"decoder_input_ids"}


def test_transformers_loads_what_was_saved_once_trimbre_auto_is_imported(saved):
    for name in SOME:
        model = saved.models[name]
        loaded = saved.family.auto.from_pretrained(saved.folder / name)
        assert torch.equal(logits_of(loaded, saved.inputs), logits_of(model, saved.inputs)), name
        text = pipeline("automatic-speech-recognition", model=str(saved.folder / name), **saved.family.pipeline)(
            {"raw": CLIP, "sampling_rate": 16_000}
        )["text"]
        processor = saved.family.processor()
        assert text == greedy(model, features_of([CLIP], processor), processor)[0], name


def test_saving_a_loaded_model_carries_everything_along(saved, tmp_path):
    for name in SOME:
        model = saved.models[name]
        before = json.loads((saved.folder / name / "config.json").read_text())
        ours, _ = trimbre.load(saved.folder / name)
        ours.save_pretrained(tmp_path / "ours" / name)
        saved.family.auto.from_pretrained(saved.folder / name).save_pretrained(tmp_path / "theirs" / name)
        for place in (tmp_path / "ours" / name, tmp_path / "theirs" / name):
            assert (place / "modeling_trimbre.py").read_text() == Path(
                trimbre.models.modeling_trimbre.__file__
            ).read_text()
            config = json.loads((place / "config.json").read_text())
            for key in ("architectures", "model_type", "dtype", "auto_map", "trimbre"):
                assert config[key] == before[key], key
            loaded = saved.family.auto.from_pretrained(place)
            assert torch.equal(logits_of(loaded, saved.inputs), logits_of(model, saved.inputs)), place


def test_a_smaller_model_takes_less_room(saved):
    sizes = {name: (saved.folder / name / "model.safetensors").stat().st_size for name in saved.models}
    assert sizes["no-modules"] < sizes["no-units"] < sizes["random-0"] < sizes["everything"]


def test_a_checkpoint_is_pruned_again_and_its_plans_compose(saved, tmp_path):
    first = load_plan(saved.folder / "random-0")
    loaded, processor = trimbre.load(saved.folder / "random-0")
    second = random_plan(anatomy_of(loaded), 9)
    again = cut(loaded, second)
    save(again, processor, tmp_path / "again", plan=first.then(second))
    found = trimbre.load(tmp_path / "again").model
    assert torch.equal(logits_of(found, saved.inputs), logits_of(saved.models["twice"], saved.inputs))
    directly = cut(dense_of(saved.family), load_plan(tmp_path / "again"))
    assert torch.allclose(logits_of(found, saved.inputs), logits_of(directly, saved.inputs), atol=1e-6)
    assert found.config.trimbre["widths"] == directly.config.trimbre["widths"]


def test_half_is_stored_and_float32_is_loaded(saved, tmp_path):
    model = saved.models["random-0"]
    save(model, saved.family.processor(), tmp_path / "half", half=True)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float16}
    rounded = cut(dense_of(saved.family), load_plan(saved.folder / "random-0"))
    with torch.no_grad():
        for value in rounded.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half())
    for loaded in (trimbre.load(tmp_path / "half").model, saved.family.auto.from_pretrained(tmp_path / "half")):
        assert loaded.dtype == torch.float32
        assert torch.equal(logits_of(loaded, saved.inputs), logits_of(rounded, saved.inputs))
    assert model.dtype == torch.float32  # what was saved stays as it was


def test_what_a_config_states_stays_when_its_model_is_saved(saved, tmp_path):
    model = dense_of(saved.family)
    model.config.dtype = torch.float16  # as after `.float()` on a checkpoint of halves
    save(model, saved.family.processor(), tmp_path / "out")
    assert model.config.dtype == torch.float16
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"


def test_a_dense_model_saved_by_us_is_an_ordinary_one(saved, tmp_path):
    dense = dense_of(saved.family)
    save(dense, saved.family.processor(), tmp_path / "dense")
    loaded, processor = trimbre.load(tmp_path / "dense")
    save(loaded, processor, tmp_path / "again")
    for place in (tmp_path / "dense", tmp_path / "again"):
        config = json.loads((place / "config.json").read_text())
        assert not {"trimbre", "auto_map"} & config.keys()
        assert not list(place.glob("*.py"))
        ordinary = type(dense).from_pretrained(place)  # transformers' own class
        assert torch.equal(logits_of(ordinary, saved.inputs), logits_of(dense, saved.inputs))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "model.nemo"])
def test_pickles_are_refused_unread(saved, tmp_path, name):
    place = tmp_path / "model"
    shutil.copytree(saved.folder / "random-0", place)
    (place / "model.safetensors").unlink()
    (place / name).write_bytes(b"would raise if it were read")
    for given in (place, place / name):
        with pytest.raises(UserError, match=rf"{name} .*safetensors"):
            trimbre.load(given)
    (place / "adapter.safetensors").write_bytes((saved.folder / "random-0" / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match=str(place)):  # weights of another name are none
        trimbre.load(place)


def test_a_ctranslate2_model_is_told_from_a_pickle(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"would raise if it were read")
    with pytest.raises(UserError, match=rf"trimbre convert ctranslate2 {tmp_path}"):
        trimbre.load(tmp_path)


def test_a_newer_format_is_refused_kindly(saved, tmp_path):
    place = newer(saved.folder / "random-0", tmp_path / "newer")
    with pytest.raises(UserError, match=rf"newer .*format {FORMAT + 1}.*update Trimbre"):
        trimbre.load(place)
    with pytest.raises(ValueError, match=rf"format {FORMAT + 1}.*newer Trimbre"):
        saved.family.auto.from_pretrained(place)


def damaged(place: Path, how: str) -> None:
    weights, config = place / "model.safetensors", place / "config.json"
    if how == "no config":
        config.unlink()
    elif how == "no JSON":
        config.write_text("{")
    elif how == "a list":
        config.write_text("[]")
    elif how == "no weights":
        weights.unlink()
    elif how == "no safetensors":
        weights.write_bytes(b"x" * 1000)
    elif how == "cut off":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "no processor":
        for file in place.iterdir():
            if file.stem.startswith(("processor", "preprocessor", "tokenizer", "vocab")):
                file.unlink()
    elif how in ("another shape", "a tensor gone"):
        tensors = load_file(weights)
        name = next(name for name in tensors if name.endswith("weight"))
        value = tensors.pop(name)
        if how == "another shape":
            tensors[name] = torch.cat([value, value])
        save_file(tensors, weights, metadata={"format": "pt"})
    else:
        layout = json.loads(config.read_text())
        kind = next(kind for kind, widths in layout["trimbre"]["widths"].items() if widths)
        path = next(iter(layout["trimbre"]["widths"][kind]))
        if how == "another layout":
            layout["trimbre"]["widths"][kind].pop(path)
        elif how == "a module that isn't there":
            layout["trimbre"]["widths"][kind]["encoder.nowhere"] = [1, 2]
        elif how == "half a layout":
            del layout["trimbre"]["kinds"]
        elif how == "an odd format":
            layout["trimbre"]["format"] = "one"
        elif how == "an odd layout":
            layout["trimbre"] = ["widths"]
        elif how == "another family":
            layout["model_type"] = "wav2vec2-bert" if layout["model_type"] == "whisper" else "whisper"
        else:
            raise AssertionError(how)
        config.write_text(json.dumps(layout))


@pytest.mark.parametrize(
    "how",
    [
        "no config",
        "no JSON",
        "a list",
        "no weights",
        "no safetensors",
        "cut off",
        "another shape",
        "a tensor gone",
        "no processor",
        "another layout",
        "a module that isn't there",
        "half a layout",
        "an odd layout",
        "an odd format",
        pytest.param("another family", marks=pytest.mark.once),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_its_path(saved, tmp_path, how):
    place = tmp_path / "model"
    shutil.copytree(saved.folder / "random-0", place)
    damaged(place, how)
    with pytest.raises(UserError, match=str(place)):
        trimbre.load(place)


@pytest.mark.parametrize("name", ["nothing-here", "nothing/here/at-all", "/nothing", ""])
def test_a_name_that_is_neither_a_folder_nor_a_hub_name_is_refused_without_asking_the_hub(name):
    with pytest.raises(UserError, match="no model"):
        trimbre.load(name)
