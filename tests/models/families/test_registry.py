"""A family that a user registers goes every way that ours go."""

import json
import os
import random
import re
import subprocess
import sys
from itertools import chain

import pytest
import torch
from helpers.checkpoints import CLIP, logits_of
from helpers.families import FAMILIES, shaken, tiny_kin
from helpers.places import ROOT, TESTS
from helpers.sew import FAMILY
from safetensors.torch import load_file, save_file
from transformers import SEWConfig, SEWForCTC, ViTConfig, ViTModel

import trimbre
from trimbre.errors import UserError
from trimbre.exporting.ctc import length_layers
from trimbre.exporting.targets import layout_for
from trimbre.models.checkpoint import save
from trimbre.models.families import registry
from trimbre.models.families.registry import Family, anatomy_of, family_of, head_of
from trimbre.models.heads.ctc import CTC
from trimbre.models.heads.seq2seq import Seq2Seq
from trimbre.models.inputs import features_of
from trimbre.pruning.equivalence import random_cut, verify_cutting
from trimbre.pruning.surgery import cut

PROCESSOR = FAMILIES["wav2vec2-conformer, rotary"].processor()


@pytest.fixture
def sew():
    before = dict(registry._families())
    trimbre.register_family(FAMILY)
    yield shaken(tiny_kin("SEW"))
    registry._families().clear()
    registry._families().update(before)


@pytest.fixture
def anatomy(sew):
    return anatomy_of(sew)


def test_masked_equals_sliced(sew):
    assert verify_cutting(sew, PROCESSOR, plans=8) < 1e-5


AGAIN = """
import json, sys
job = json.load(open(sys.argv[1]))
import torch
torch.set_num_threads(1)
from safetensors.torch import load_file, save_file
inputs = load_file(job["inputs"])
found = {}
if job["how"] == "remote":
    sys.modules["trimbre"] = None
    from transformers import AutoModelForCTC
    found["model"] = AutoModelForCTC.from_pretrained(job["model"], trust_remote_code=True).eval()
    found["model"].save_pretrained(job["model"] + "-again")
    found["again"] = AutoModelForCTC.from_pretrained(job["model"] + "-again", trust_remote_code=True).eval()
else:
    import trimbre, trimbre.auto
    found["unregistered"] = trimbre.load(job["model"]).model
    sys.path.insert(0, job["tests"])
    from helpers.sew import FAMILY
    from transformers import AutoModelForCTC
    trimbre.register_family(FAMILY)
    found["auto"] = AutoModelForCTC.from_pretrained(job["model"]).eval()
    found["load"] = trimbre.load(job["model"]).model
import copy
with torch.no_grad():
    logits = {name: copy.deepcopy(model)(**inputs).logits.contiguous() for name, model in found.items()}
save_file(logits, job["logits"])
"""


@pytest.mark.parametrize("how", ["remote", "installed"])
@pytest.mark.slow
def test_a_cut_model_is_loaded_by_another_process(sew, anatomy, tmp_path, how):
    plan, _ = random_cut(anatomy, random.Random(3))
    small = cut(sew, plan).eval()
    save(small, PROCESSOR, tmp_path / "model", plan=plan)
    inputs = features_of([CLIP[:9_000], CLIP], PROCESSOR)
    save_file(inputs, tmp_path / "inputs")
    job = {name: str(tmp_path / name) for name in ("model", "inputs", "logits")}
    (tmp_path / "job").write_text(json.dumps(job | {"how": how, "tests": str(TESTS)}))
    alone = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "job")]
    done = subprocess.run(command, env=alone, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, logits in load_file(tmp_path / "logits").items():
        assert torch.equal(logits, logits_of(small, inputs)), name


def test_a_dense_model_of_a_registered_family_stays_an_ordinary_one(sew, tmp_path):
    save(sew, PROCESSOR, tmp_path / "dense")
    loaded, _ = trimbre.load(tmp_path / "dense")
    assert type(loaded) is SEWForCTC
    assert not list((tmp_path / "dense").glob("*.py"))


def test_families_are_found_by_model_and_by_config(family):
    model = family.build()
    assert family_of(model) is family_of(model.config)
    assert head_of(model).auto_class == family.auto.__name__
    assert type(model).__name__ in family_of(model).classes


def test_the_table_of_models_is_the_registry():
    named = {"ONNX Runtime": ("onnx",), "onnx-asr": ("onnx-asr",), "sherpa-onnx": ("sherpa-onnx",), "none yet": ()}
    readme = (ROOT / "README.md").read_text()
    lines = readme.partition("\n## Models\n")[2].partition("\n## ")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert len(rows) > 5
    for _, classes, _, runtimes in rows:
        stated = [named[one] for one in re.sub(r" \(.*?\)", "", runtimes).split(", ")]
        for name in re.findall(r"`(\w+)`", classes):
            assert set(registry._families()[name].runtimes) == set(chain(*stated)), name
    described = readme + (ROOT / "docs/models.md").read_text()
    assert not [name for name in registry._families() if f"`{name}`" not in described]


def test_a_model_that_no_family_covers_can_be_run_and_not_pruned():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = SEWConfig(vocab_size=9, conv_dim=(8,) * 13, **sizes)
    model = SEWForCTC(config)
    assert head_of(model) == head_of(config) == CTC()
    with pytest.raises(UserError, match=r"SEWForCTC .*knows .*, parakeet, .*trimbre.register_family"):
        anatomy_of(model)
    with pytest.raises(UserError, match="ViTModel is not a model that Trimbre can prune"):
        family_of(ViTModel(ViTConfig(**sizes)))


def test_of_classes_with_one_config_the_family_registered_last_is_its(sew):
    other = Family("sew-classifier", ("SEWForSequenceClassification",), CTC(), None)
    assert family_of(sew.config) is FAMILY
    trimbre.register_family(other)
    assert family_of(sew.config) is other
    assert family_of(sew) is FAMILY


def test_a_name_is_of_one_family_and_the_same_classes_are_registered_again(sew):
    with pytest.raises(ValueError, match="name='sew': another family"):
        trimbre.register_family(Family("sew", ("SEWDForCTC",), CTC(), None))
    trimbre.register_family(FAMILY)
    assert {family.name for family in registry.families()} >= {"sew", "whisper", "parakeet"}


def test_what_cannot_be_exported_is_refused(sew):
    trimbre.register_family(Family("talking sew", ("SEWForCTC",), Seq2Seq(), None))
    with pytest.raises(ValueError, match="to='onnx': no exporter"):
        layout_for("onnx", sew, PROCESSOR)
    sew._get_feat_extract_output_lengths = lambda lengths: lengths // 7  # not what its config states
    with pytest.raises(ValueError, match="SEWForCTC cannot be exported"):
        length_layers(sew)


@pytest.mark.parametrize(
    ("given", "culprit"),
    [({"classes": ("NoSuchForCTC",)}, "NoSuchForCTC"), ({"runtimes": ("onnx", "abacus")}, "runtimes='abacus'")],
)
def test_a_family_that_cannot_be_is_refused(given, culprit):
    with pytest.raises(ValueError, match=culprit):
        trimbre.register_family(Family(**{"name": "x", "classes": (), "head": Seq2Seq(), "anatomy": None} | given))
