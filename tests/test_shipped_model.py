"""The recognisers that ship: what is promised of their files, and the laws on real weights and a real recording."""

import copy
import json
import random

import pytest
import torch
from helpers.places import CLIP, DEEP, MODEL, SAID
from safetensors import safe_open
from transformers import pipeline

from trimbre.config import DistillationConfig
from trimbre.data.audio import read_audio
from trimbre.data.batches import collate
from trimbre.evaluation.bootstrap import word_errors
from trimbre.inference.greedy import greedy
from trimbre.models.families.registry import anatomy_of
from trimbre.models.inputs import features_of
from trimbre.models.loading import load
from trimbre.pruning.equivalence import check_equality, equality, random_cut
from trimbre.pruning.gates import Gates, gated
from trimbre.pruning.surgery import cut
from trimbre.pruning.targets import ModelCosts
from trimbre.training.distillation import Distiller, Objective

SIZES = {MODEL: 12_000_000, DEEP: 26_000_000}
"""Bytes that the weights take at most."""


@pytest.fixture(scope="module", params=SIZES, ids=lambda place: place.name)
def place(request):
    return request.param


@pytest.fixture(scope="module")
def teacher(place):
    return load(place)


def test_it_is_small_in_half_precision_and_loads_in_single(place, teacher):
    weights = place / "model.safetensors"
    assert weights.stat().st_size <= SIZES[place]
    with safe_open(weights, framework="pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  not a mapping
    assert kinds <= {"F16", "I64"}
    assert json.loads((place / "config.json").read_text())["dtype"] == "float32"
    assert {parameter.dtype for parameter in teacher.model.parameters()} == {torch.float32}


def test_its_front_end_is_a_small_part_of_the_arithmetic(teacher):
    macs = ModelCosts.of(teacher.model, anatomy_of(teacher.model), teacher.processor).dense()["macs"]
    assert macs["model"] - macs["blocks"] <= 0.15 * macs["model"]


def test_a_real_recording_has_one_transcript_in_all_three_ways(place, teacher):
    clip = read_audio(CLIP)
    inputs = features_of([clip], teacher.processor)
    text = greedy(teacher.model, inputs, teacher.processor)[0]
    assert word_errors([SAID], [text]).rate <= 0.5  # one sentence: the card's table has its error rates
    assert text == teacher.processor.decode(teacher.model.generate(**inputs)[0])
    recognise = pipeline("automatic-speech-recognition", model=str(place))
    assert text == recognise(clip)["text"]


@pytest.mark.parametrize("place", [MODEL], indirect=True, ids=[MODEL.name])
def test_masked_equals_sliced_on_a_real_clip_after_training(teacher):
    """Training moves BatchNorm's statistics, and soft gates are folded: the cut must follow both."""
    torch.manual_seed(0)
    student = copy.deepcopy(teacher.model).requires_grad_(True)
    clip = read_audio(CLIP)
    batch = collate(
        [clip, clip[: len(clip) // 2]], [SAID, SAID], ["a", "b"], processor=teacher.processor, normalize="basic"
    )
    gates = Gates(anatomy_of(student))
    objective = Objective(student.train(), Distiller(teacher.model, DistillationConfig()))
    optimizer = torch.optim.SGD([*student.parameters(), *gates.parameters()], lr=1e-3)
    before = student.encoder.layers[0].conv.norm.running_mean.clone()
    with gated(student, gates):
        for _ in range(3):
            objective(batch, 0)["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
    assert not torch.equal(before, student.encoder.layers[0].conv.norm.running_mean)
    student.eval()
    for seed in range(3):
        plan, scales = random_cut(anatomy_of(student), random.Random(seed))
        small = cut(student, plan, gate_values=scales)
        assert check_equality(student, small, scales, batch.inputs) <= 1e-5
        hard = cut(student, plan)  # without folding it is another function, and the check would notice
        assert equality(student, hard, scales, batch.inputs) > 1e-3


def test_its_card_gives_data_licences_and_figures(place):
    card = (place / "README.md").read_text()
    for word in ("CC BY-SA 3.0", "WER", "held-out", "recipes/teacher/train.sh", "espeak-ng", "flite", "festival"):
        assert word in card
