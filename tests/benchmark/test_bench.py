"""Timing side by side: every combination is measured, and comparisons are with the first."""

import json

import pytest
import torch
from helpers.mini_recogniser import mini_parakeet, mini_processor

from trimbre.benchmark import bench as module
from trimbre.benchmark.bench import SECONDS, Subject, bench
from trimbre.cli import run
from trimbre.config import BENCH_RUNTIMES
from trimbre.errors import UserError
from trimbre.models.checkpoint import save
from trimbre.training.low_memory import cast_matrices_to_bfloat16


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(save(mini_parakeet(seed), mini_processor(), folder / name)) for seed, name in enumerate(["one", "two"])]


@pytest.fixture
def here(monkeypatch):
    """Loading is measured here, without a process of its own for each model."""
    monkeypatch.setattr(module, "_loading", module._loading_here)


@pytest.mark.slow
def test_every_combination_is_timed_and_compared_with_the_first(models, here):
    before = torch.get_num_threads()
    timings = bench(models, threads=(1,), repeats=3)
    assert [t.subject for t in timings] == [Subject(m, runtime, 1) for runtime in BENCH_RUNTIMES for m in models]
    assert torch.get_num_threads() == before
    by = {(t.subject.runtime, t.subject.model): t for t in timings}
    for (_, model), timing in by.items():
        assert list(timing.latency) == [f"{length:g}" for length in SECONDS]
        assert all(0 < one.low <= one.median <= one.high for one in timing.latency.values())
        assert timing.file_bytes > 1000
        assert timing.load_seconds > 0
        if model == models[0]:
            assert timing.against_first.low == timing.against_first.high == 1
    assert by["torch-fp32", models[0]].against_plain.median == 1
    assert by["onnx-int8", models[0]].file_bytes != by["onnx-fp32", models[0]].file_bytes


def test_ratios_and_factors_are_of_the_same_repeat(models, here, monkeypatch):
    """By times that are known: the second model takes half as long, in a machine that grows slower all the while."""

    def known(transcribers, repeats, seed):
        pace = {models[0]: 2.0, models[1]: 1.0}
        paces = {subject: [pace[subject.model] * (1 + repeat) for repeat in range(repeats)] for subject in transcribers}
        return {s: {length: [one * length for one in each] for length in SECONDS} for s, each in paces.items()}

    monkeypatch.setattr(module, "_times", known)
    one, two = bench(models, runtimes=("torch-fp32",), threads=(1,), repeats=3)
    assert (two.against_first.low, two.against_first.median, two.against_first.high) == pytest.approx((2, 2, 2))
    assert one.rtf.median == pytest.approx(2 * 2)  # the middle repeat is twice as slow as the first
    assert two.latency["5"].high == pytest.approx(5 * 3)


def test_matrices_are_held_in_bfloat16_where_that_is_timed(models, here, monkeypatch):
    halved = []
    monkeypatch.setattr(
        module, "cast_matrices_to_bfloat16", lambda model: halved.append(model) or cast_matrices_to_bfloat16(model)
    )
    bench(models, runtimes=("torch-fp32", "torch-bf16"), threads=(1,), repeats=1)
    assert len(halved) == 4  # each of two models, once to be timed and once to be measured alone
    linear = [m for model in halved for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert {layer.weight.dtype for layer in linear} == {torch.bfloat16}


@pytest.mark.slow
def test_memory_and_load_time_are_measured_in_a_process_of_their_own(models):
    seconds, memory = module._loading(models[0], "torch-fp32", torch.device("cpu"), 1.0)
    assert 0 < seconds < 600
    assert memory is None or 0 < memory < 4e9


def test_the_command_prints_tables_and_json(models, here, capsys):
    asked = ["bench", *models, "--runtimes", "torch-fp32", "torch-bf16", "--threads", "1", "--repeats", "1"]
    assert run(asked) == 0
    said = capsys.readouterr().out
    assert "torch-bf16" in said
    assert "one" in said
    assert run([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["timings"]) == 4
    assert found["timings"][0]["subject"] == {"model": models[0], "runtime": "torch-fp32", "threads": 1}


def test_models_in_memory_are_timed_as_their_checkpoints_are(here):
    dense, small = mini_parakeet(0), mini_parakeet(1)
    before = dense.state_dict()
    found = bench(
        {"dense": (dense, mini_processor()), "small": (small, mini_processor())},
        runtimes=("torch-fp32", "onnx-fp32"),
        threads=(1,),
        repeats=1,
        device="cpu",
    )
    assert [one.subject.model for one in found] == ["dense", "small"] * 2
    assert all(one.file_bytes > 1000 and one.device == "cpu" for one in found)
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())


def test_what_cannot_be_timed_is_refused(models):
    for given, complaint in [
        ({"models": []}, "no model given"),
        ({"models": models, "runtimes": ("tflite",)}, "runtimes='tflite'"),
        ({"models": models, "threads": (0,)}, "threads=0"),
        ({"models": models, "repeats": 0}, "repeats=0"),
        ({"models": ["nowhere"]}, "no model 'nowhere'"),
    ]:
        with pytest.raises(UserError, match=complaint):
            bench(**given, device="cpu")
