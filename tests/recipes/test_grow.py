import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.places import ROOT

RECIPE = ROOT / "recipes" / "teacher"
sys.path.insert(0, str(RECIPE))

from grow import grow  # noqa: E402

from trimbre.models.inputs import features_of  # noqa: E402
from trimbre.models.loading import load  # noqa: E402


@pytest.fixture(scope="module")
def shipped():
    return load(ROOT / "models" / "telephone-en")


@pytest.fixture(scope="module")
def inputs(shipped):
    draw = np.random.default_rng(0)
    clips = [draw.standard_normal(length).astype(np.float32) * 0.1 for length in (24_000, 9_000)]
    return features_of(clips, shipped.processor)


@pytest.mark.parametrize("follow", [None, [1, 3], []])
def test_a_deeper_model_computes_the_same(shipped, inputs, follow):
    before = {name: value.clone() for name, value in shipped.model.state_dict().items()}
    grown = grow(shipped.model, follow=follow).eval()
    blocks = len(shipped.model.encoder.layers)
    assert len(grown.encoder.layers) == blocks + (blocks if follow is None else len(follow))
    assert grown.config.encoder_config.num_hidden_layers == len(grown.encoder.layers)
    with torch.no_grad():
        expected = shipped.model.eval()(**inputs).logits
        # A LayerNorm adds 1e-5 to a variance of 1, so that two in a row differ by so little from one.
        torch.testing.assert_close(grown(**inputs).logits, expected, atol=1e-3, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in shipped.model.state_dict().items())


def test_every_new_weight_learns(shipped, inputs):
    grown = grow(shipped.model, follow=[0]).train()
    new = grown.encoder.layers[1]
    labels = torch.tensor([[5, 6], [7, -100]])
    optimizer = torch.optim.SGD(grown.parameters(), lr=1e-3)
    for _ in range(2):  # behind output projections of zero, the others have a gradient from the second step on
        optimizer.zero_grad()
        grown(**inputs, labels=labels).loss.backward()
        optimizer.step()
    still = [name for name, value in new.named_parameters() if value.grad is None or not value.grad.any()]
    assert [name for name in still if "k_proj.bias" not in name] == []


def test_a_block_that_is_not_there_is_refused(shipped):
    blocks = len(shipped.model.encoder.layers)
    with pytest.raises(ValueError, match=rf"follow=\[{blocks}\]: the model has blocks 0 to {blocks - 1}$"):
        grow(shipped.model, follow=[0, blocks])


def test_the_command_keeps_the_record_of_the_training(shipped, tmp_path: Path):
    source, out = ROOT / "models" / "telephone-en", tmp_path / "deep"
    command = [sys.executable, str(RECIPE / "grow.py"), str(source), "--follow", "3", "--out", str(out)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    blocks = len(shipped.model.encoder.layers)
    assert f"{blocks + 1} blocks" in said
    assert json.loads((out / "train.json").read_text()) == json.loads((source / "train.json").read_text())
    assert len(load(out).model.encoder.layers) == blocks + 1
