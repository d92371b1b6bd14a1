"""Checkpoints where Trimbre is not installed: transformers alone loads them, runs them and saves them again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from helpers.checkpoints import CLIP, dense_of, logits_of, newer
from helpers.families import FAMILIES, edge_plans, random_plan
from helpers.relatives import RELATIVES
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

import trimbre.auto  # noqa: F401  registers the pruned classes
from trimbre.inference.greedy import greedy
from trimbre.models import modeling_trimbre
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.inputs import features_of
from trimbre.pruning.surgery import cut

pytestmark = pytest.mark.slow

ALL = FAMILIES | RELATIVES

SCRIPT = """
import copy, json, sys
sys.modules["trimbre"] = None  # importing it fails, as where it isn't installed
import torch
from safetensors.torch import load_file, save_file
import transformers
from transformers import pipeline

torch.set_num_threads(1)
for job in json.load(open(sys.argv[1])):
    Auto = getattr(transformers, job["auto"])
    inputs, clip = load_file(job["inputs"]), load_file(job["clip"])["clip"].numpy()
    logits, texts, errors = {}, {}, {}
    for name, path in job["models"].items():
        model = Auto.from_pretrained(path, trust_remote_code=True).eval()
        model.save_pretrained(job["again"] + "/" + name)
        again = Auto.from_pretrained(job["again"] + "/" + name, trust_remote_code=True).eval()
        with torch.no_grad():
            logits[name] = copy.deepcopy(model)(**inputs).logits
            logits[name + " again"] = copy.deepcopy(again)(**inputs).logits
        if job["pipeline"] is not None:
            recogniser = pipeline("automatic-speech-recognition", model=path, trust_remote_code=True, **job["pipeline"])
            texts[name] = recogniser({"raw": clip, "sampling_rate": 16000})["text"]
    for name, path in job["refused"].items():
        try:
            Auto.from_pretrained(path, trust_remote_code=True)
        except Exception as error:
            errors[name] = [type(error).__name__, str(error)]
    save_file({name: value.contiguous() for name, value in logits.items()}, job["logits"])
    json.dump({"texts": texts, "errors": errors}, open(job["found"], "w"))
"""


class Loaded(NamedTuple):
    """Models that were saved, and what another process made of the checkpoints."""

    models: dict[str, PreTrainedModel]
    saved: Path
    again: Path
    """Where the other process saved them."""
    logits: dict[str, Tensor]
    texts: dict[str, str]
    errors: dict[str, list[str]]
    """Kind and message of what it could not load."""


def job_of(name: str, folder: Path) -> tuple[dict, dict[str, PreTrainedModel]]:
    """Save models of one family, and say what to do with them."""
    family, dense = ALL[name], dense_of(ALL[name])
    anatomy, processor = anatomy_of(dense), family.processor()
    edges = edge_plans(anatomy)
    plans = {"random-0": random_plan(anatomy, 0), "no-units": edges["no units"], "no-modules": edges["no modules"]}
    if name in RELATIVES:
        plans = {"random-0": plans["random-0"]}
    models = {one: cut(dense, plan).eval() for one, plan in plans.items()}
    if name in FAMILIES:
        models["twice"] = cut(models["random-0"], random_plan(anatomy_of(models["random-0"]), 9)).eval()
    for one, model in models.items():
        save(model, processor, folder / one, plan=plans.get(one))
    inputs = head_of(dense).example_inputs(dense, features_of([CLIP[:9_000], CLIP], processor), 7)
    save_file({one: value.contiguous() for one, value in inputs.items()}, folder / "inputs")
    save_file({"clip": torch.from_numpy(CLIP)}, folder / "clip")
    (folder / "again").mkdir()
    job = {one: str(folder / one) for one in ("inputs", "clip", "again", "logits", "found")}
    job |= {"pipeline": family.pipeline, "auto": family.auto.__name__}
    job |= {"models": {one: str(folder / one) for one in models}}
    return job | {"refused": {"newer": str(newer(folder / "random-0", folder / "newer"))}}, models


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> dict[str, Loaded]:
    """What one process without Trimbre makes of the checkpoints of all families."""
    folder = tmp_path_factory.mktemp("elsewhere")
    folders = {name: folder / str(number) for number, name in enumerate(ALL)}
    for place in folders.values():
        place.mkdir()
    prepared = {name: job_of(name, place) for name, place in folders.items()}
    (folder / "jobs").write_text(json.dumps([job for job, _ in prepared.values()]))
    alone = os.environ | {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    command = [sys.executable, "-c", SCRIPT, str(folder / "jobs")]
    done = subprocess.run(command, env=alone, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {
        name: Loaded(models, folders[name], folders[name] / "again", load_file(job["logits"]), **found_in(job["found"]))
        for name, (job, models) in prepared.items()
    }


def found_in(file: str) -> dict:
    return json.loads(Path(file).read_text())


@pytest.fixture(params=ALL)
def family(request) -> str:
    return request.param


def test_what_was_saved_is_loaded_run_and_saved_again(elsewhere, family):
    loaded, processor = elsewhere[family], ALL[family].processor()
    inputs = load_file(loaded.saved / "inputs")
    for name, model in loaded.models.items():
        expected = logits_of(model, inputs)
        assert torch.equal(loaded.logits[name], expected), name
        assert torch.equal(loaded.logits[f"{name} again"], expected), name
        assert (
            name not in loaded.texts
            or loaded.texts[name] == greedy(model, features_of([CLIP], processor), processor)[0]
        ), name


def test_what_is_saved_there_is_the_same_checkpoint(elsewhere, family):
    loaded, code = elsewhere[family], Path(modeling_trimbre.__file__).read_text()
    inputs = load_file(loaded.saved / "inputs")
    for name, model in loaded.models.items():
        before, after = (json.loads((place / name / "config.json").read_text()) for place in loaded[1:3])
        for key in ("architectures", "model_type", "dtype", "auto_map", "trimbre"):
            assert after[key] == before[key], key
        assert (loaded.again / name / "modeling_trimbre.py").read_text() == code
        again = ALL[family].auto.from_pretrained(loaded.again / name)
        assert torch.equal(logits_of(again, inputs), logits_of(model, inputs)), name


def test_a_newer_format_is_refused_kindly(elsewhere, family):
    kind, sentence = elsewhere[family].errors["newer"]
    assert kind == "ValueError"
    assert "use a newer Trimbre" in sentence
