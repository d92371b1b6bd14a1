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


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(save(mini_parakeet(seed), mini_processor(), folder / name)) for seed, name in enumerate(["one", "two"])]


@pytest.fixture
def here(monkeypatch):
    """Loading is measured here, without a process of its own for each model."""
    monkeypatch.setattr(module, "_loading", module._loading_here)


@pytest.mark.slow
def test_every_runtime_is_timed_and_compared_with_the_first(models, here):
    before = torch.get_num_threads()
    timings = bench(models[:1], threads=(1,), repeats=1)
    assert [t.subject for t in timings] == [Subject(models[0], runtime, 1) for runtime in BENCH_RUNTIMES]
    assert torch.get_num_threads() == before
    for timing in timings:
        assert list(timing.latency) == [f"{length:g}" for length in SECONDS]
        assert all(0 < one.low <= one.median <= one.high for one in timing.latency.values())
        assert timing.file_bytes > 1000
        assert timing.load_seconds > 0
        assert timing.against_first.low == timing.against_first.high == 1
    by = {t.subject.runtime: t for t in timings}
    assert by["torch-fp32"].against_plain.median == 1
    assert by["onnx-int8"].file_bytes != by["onnx-fp32"].file_bytes


@pytest.mark.slow
def test_every_model_is_timed_with_every_number_of_threads(models, here):
    timings = bench(models, runtimes=("torch-fp32",), threads=(1, 2), repeats=1)
    assert [t.subject for t in timings] == [Subject(m, "torch-fp32", count) for count in (1, 2) for m in models]


def test_ratios_and_factors_are_of_the_same_repeat():
    """The second model takes half as long, on a machine that gets slower with every repeat."""
    one, two = Subject("one", "torch-fp32", 1), Subject("two", "torch-fp32", 1)
    times = {
        subject: {length: [pace * length * (1 + repeat) for repeat in range(3)] for length in SECONDS}
        for subject, pace in ((one, 2.0), (two, 1.0))
    }
    loads = {(subject.model, subject.runtime): (0.5, None) for subject in times}
    files = dict.fromkeys(loads, 1000)
    first, second = (module._timing(subject, one, times, loads, files, "cpu") for subject in times)
    assert (first.against_first.low, first.against_first.high) == (1, 1)
    assert (second.against_first.low, second.against_first.median, second.against_first.high) == pytest.approx((2,) * 3)
    assert first.rtf.median == pytest.approx(2 * 2)  # the middle repeat is twice as slow as the first
    assert second.latency["5"].high == pytest.approx(5 * 3)


@pytest.mark.parametrize(("runtime", "dtype"), [("torch-fp32", torch.float32), ("torch-bf16", torch.bfloat16)])
def test_matrices_are_multiplied_in_the_precision_of_the_runtime(models, here, runtime, dtype):
    seen = set()

    def note(module, inputs):
        if isinstance(module, torch.nn.Linear):
            seen.add(module.weight.dtype)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        bench(models, runtimes=(runtime,), threads=(1,), repeats=1)
    finally:
        hook.remove()
    assert seen == {dtype}


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
        runtimes=("torch-fp32",),
        threads=(1,),
        repeats=1,
        device="cpu",
    )
    assert [one.subject.model for one in found] == ["dense", "small"]
    assert all(one.file_bytes > 1000 and one.device == "cpu" for one in found)
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())


def test_what_cannot_be_timed_is_refused(models, here):
    for given, complaint in [
        ({"models": []}, "no model given"),
        ({"models": models, "runtimes": ("tflite",)}, "runtimes='tflite'"),
        ({"models": models, "threads": (0,)}, "threads=0"),
        ({"models": models, "repeats": 0}, "repeats=0"),
        ({"models": ["nowhere"]}, "no model 'nowhere'"),
    ]:
        with pytest.raises(UserError, match=complaint):
            bench(**given, device="cpu")
