"""What `import trimbre` offers: every name is there, explained, and takes paths as `str` or `Path` and objects."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor
from lhotse import CutSet

import trimbre
from trimbre.data.corpus import Utterance, write_corpus
from trimbre.data.cuts import read_cuts
from trimbre.errors import UserError
from trimbre.models.checkpoint import save

QUICK = trimbre.PruneConfig(
    remove=0.4,
    budget="params",
    precision="fp32",
    calibration_batches=1,
    gates=trimbre.GateConfig(steps=1),
    recovery=trimbre.RecoveryConfig(steps=1, refit_batches=1),
    batches=trimbre.BatchConfig(max_duration=6.0, buckets=1, augment=trimbre.AugmentConfig.none()),
)
SHORT = trimbre.TrainConfig(steps=1, short_steps=0, precision="fp32", batches=trimbre.BatchConfig(max_duration=6.0))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a model, a corpus of noise, a recording, a list of sentences and a pruned model."""
    place = tmp_path_factory.mktemp("face")
    save(mini_parakeet(), mini_processor(), place / "mini")
    spoken = [Utterance(f"clip-{n}", clip / 8, "a bad cab", None) for n, clip in enumerate(clips(0.6, 0.8, 1.0, 1.2))]
    write_corpus(spoken, place / "data", source="noise", licence="none")
    soundfile.write(place / "call.wav", clips(0.7)[0] / 8, 16000)
    (place / "said.txt").write_text("bad cab\na bad egg\n")
    trimbre.prune(place / "mini", train=place / "data", dev=place / "data", out=place / "half", config=QUICK)
    return place


FORMS = {
    "str": (lambda place: str(place / "mini"), lambda place: str(place / "data"), str),
    "Path": (lambda place: place / "mini", lambda place: place / "data", Path),
    "objects": (
        lambda place: tuple(trimbre.load(place / "mini")),
        lambda place: list(read_cuts(place / "data")),
        Path,
    ),
}
"""How a model, data and a path are given."""


@pytest.fixture(params=FORMS)
def given(request, place, tmp_path):
    """model, data, and what makes a path to write to."""
    model, data, path = FORMS[request.param]
    return model(place), data(place), lambda name: path(tmp_path / name)


@pytest.mark.parametrize("name", trimbre.__all__)
def test_every_public_name_is_there_and_explained(name):
    thing = getattr(trimbre, name)
    assert thing.__name__ == name
    assert inspect.getdoc(thing)


def test_the_public_names_are_the_ones_that_are_announced():
    assert set(trimbre.__all__) == set(trimbre._HOME)
    assert set(trimbre.__all__) <= set(dir(trimbre))
    with pytest.raises(AttributeError, match="nonsense"):
        trimbre.nonsense  # noqa: B018
    assert not hasattr(trimbre, "__nonsense__")  # what copying and inspecting ask for


def test_what_public_functions_return_is_public():
    returned = set()
    for name in trimbre.__all__:
        if inspect.isfunction(thing := getattr(trimbre, name)):
            returned |= set(re.findall(r"[A-Z]\w+", str(inspect.signature(thing).return_annotation).rpartition(".")[2]))
    assert returned - {"Any", "Iterator", "None", "PreTrainedModel"} <= set(trimbre.__all__)


def test_importing_trimbre_imports_nothing_heavy():
    script = (
        "import sys, trimbre\n"
        "print(sorted({'torch', 'transformers', 'lhotse', 'numpy', 'accelerate', 'cyclopts'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_prune_takes_every_form(given):
    model, data, path = given
    written = trimbre.prune(model, train=data, dev=data, watch={"again": data}, out=path("one/half"), config=QUICK)
    assert set(written.report["evaluation"]["sets"]) == {"dev", "again"}
    saved = written.save(path("half"))
    for folder in (path("one/half"), saved):
        small = trimbre.load(folder).model
        assert all(torch.equal(one, small.state_dict()[name]) for name, one in written.model.state_dict().items())
        assert trimbre.Plan.load(Path(folder) / "plan.json") == written.plan
    with pytest.raises(UserError, match=r"out='.*half': it already exists"):
        written.save(path("half"))
    assert trimbre.preview(model, train=data, remove=0.3)["to_remove"]


def test_train_takes_every_form(given):
    model, data, path = given
    result = trimbre.train(model, train=data, dev=data, out=path("mine"), config=SHORT)
    assert result.report["steps"] == 1
    loaded = trimbre.load(path("mine")).model.state_dict()
    assert all(torch.equal(one, loaded[name]) for name, one in result.model.state_dict().items())
    assert trimbre.load(result.save(path("half"), half=True))


def test_evaluate_and_transcribe_take_every_form(given, place):
    model, data, path = given
    graph = path("graph")
    made = trimbre.make_graph(model, out=graph, sentences=path(place / "said.txt"), transcripts=data)
    assert made.words == 4
    for decoder in (None, graph, trimbre.load_graph(graph)):
        report = trimbre.evaluate(model, data=data, against=model, watch={"again": data}, graph=decoder)
        assert [one.references["baseline"].comparison.difference for one in report.sets.values()] == [0, 0]
        files = path(place / "call.wav")
        (transcript,) = trimbre.transcribe(model, files=files, graph=decoder)
        assert transcript == next(trimbre.transcribe(model, files=[files], graph=decoder))
        assert transcript.file == str(files)


def test_inspect_and_cut_take_every_form(given, place):
    model, _, path = given
    assert trimbre.inspect(model)["dense"]["params"]["model"]
    network, processor = trimbre.load(model) if not isinstance(model, tuple) else model
    small = trimbre.cut(network, trimbre.Plan.load(path(place / "half/plan.json")))
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in network.parameters())
    assert trimbre.inspect(small, processor)["class"] == type(small).__name__


@pytest.mark.slow
def test_export_takes_every_form(given):
    model, data, path = given
    found = trimbre.export(model, to="onnx", out=path("onnx"), data=data)
    assert found["wer"]["fp32"]["reference"] == 12


@pytest.mark.slow
def test_bench_takes_every_form(place):
    models = {"one": str(place / "mini"), "two": trimbre.load(place / "mini")}
    timings = trimbre.bench(models, runtimes=["torch-fp32"], threads=[1], repeats=1)
    assert [timing.subject.model for timing in timings] == list(models)
    (timing,) = trimbre.bench(place / "mini", runtimes=["torch-fp32"], threads=[1], repeats=1)
    assert timing.subject.model == str(place / "mini")


def test_compare_takes_paths_reports_and_results(place, tmp_path):
    result = trimbre.prune(place / "mini", train=place / "data", dev=place / "data", config=QUICK, method="magnitude")
    for half in (place / "half", str(place / "half"), place / "half/prune.json"):
        rows = trimbre.compare([half, result]).to_json()["rows"]
        assert {row["name"] for row in rows} == {"curvature", "magnitude"}
    rows = trimbre.compare({"one": place / "half", "other": result}).to_json()["rows"]
    assert {row["name"] for row in rows} == {"one", "other"}


def test_without_out_nothing_is_written(place, tmp_path, monkeypatch):
    before = sorted(place.rglob("*"))
    monkeypatch.chdir(tmp_path)
    trimbre.prune(place / "mini", train=place / "data", dev=place / "data", config=QUICK)
    trimbre.train(place / "mini", train=place / "data", dev=place / "data", config=SHORT)
    assert list(tmp_path.iterdir()) == []
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("change", [lambda model: model.eval(), lambda model: model.train()], ids=["eval", "train"])
def test_a_model_in_memory_stays_as_it_was(place, change):
    model, processor = trimbre.load(place / "mini")
    change(model)
    cuts = read_cuts(place / "data")

    def state():
        tensors = {name: (one.clone(), one.dtype, one.device) for name, one in model.state_dict().items()}
        flags = [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
        return tensors, flags, [module.training for module in model.modules()], model.config.to_dict(), type(model)

    before = state()
    result = trimbre.prune(model, processor, train=cuts, dev=cuts, config=QUICK)
    trimbre.prune(model, processor, train=cuts, config=QUICK, method="l0", remove=0.3)
    trimbre.train(model, processor, train=cuts, dev=cuts, config=SHORT)
    trimbre.evaluate(result.model, processor, data=cuts, against=model)
    next(trimbre.transcribe(model, processor, files=place / "call.wav"))
    trimbre.inspect(model, processor, verify=True)
    after = state()
    assert before[1:] == after[1:]
    assert all(
        torch.equal(one[0], after[0][name][0]) and one[1:] == after[0][name][1:] for name, one in before[0].items()
    )


def test_paths_and_objects_give_the_same_model(place):
    cuts = CutSet.from_cuts(read_cuts(place / "data"))
    by_path = trimbre.prune(place / "mini", train=place / "data", dev=place / "data", config=QUICK)
    by_object = trimbre.prune(*trimbre.load(place / "mini"), train=cuts, dev=cuts, config=QUICK)
    assert by_path.plan == by_object.plan
    theirs = by_object.model.state_dict()
    assert all(torch.equal(one, theirs[name]) for name, one in by_path.model.state_dict().items())


def test_a_pruned_model_is_pruned_on_from_memory_as_from_its_checkpoint(place):
    again = {"train": place / "data", "config": QUICK, "remove": 0.3, "method": "magnitude"}
    from_path = trimbre.prune(place / "half", **again)
    from_memory = trimbre.prune(*trimbre.load(place / "half"), **again)
    assert from_path.plan == from_memory.plan
    assert dict(from_path.plan.sizes) == dict(trimbre.Plan.load(place / "half/plan.json").sizes)
    assert trimbre.prune(from_memory.model, from_memory.processor, **again).plan.changes  # it is of no checkpoint


def test_the_control_comes_with_the_result(place):
    config = trimbre.PruneConfig(**{**vars(QUICK), "control": True})
    result = trimbre.prune(place / "mini", train=place / "data", config=config)
    dense = trimbre.load(place / "mini").model
    sizes = [sum(p.numel() for p in model.parameters()) for model in (result.control, dense, result.model)]
    assert sizes[0] == sizes[1] > sizes[2]


def test_transcribe_checks_its_arguments_in_the_call(place):
    for files, model, graph in (
        ([], "mini", None),
        ("call.wav", "gone", None),
        ("call.wav", "mini", place),
    ):
        files = place / files if files else files
        with pytest.raises(ValueError, match=r"gone|no audio file|graph"):
            trimbre.transcribe(place / model, files=files, graph=graph)


def test_files_without_sound_have_an_error_in_place_of_a_text(place):
    files = [place / name for name in ("call.wav", "said.txt", "gone.wav")]
    read, *others = trimbre.transcribe(place / "mini", files=files)
    assert (read.seconds, read.error) == (pytest.approx(0.7), None)
    for file, other in zip(files[1:], others, strict=True):
        assert other.text is None
        assert str(file) in other.error


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"remove": 1.2}, "remove=1.2: give a share"),
        ({"method": "by eye"}, "method='by eye': choose one of"),
        ({"remove": 0.5, "rtf": 0.1}, "rtf=0.1: .* give one of them"),
        ({"margin_percent": -1}, "margin_percent=-1: give 0 or more"),
        ({"device": "abacus"}, "device='abacus': choose one of"),
        ({"resume": True}, "resume=True: "),
        ({"train": 3}, "train=.*int.*: give a path"),
        ({"train": []}, "train=.*: there is no utterance in it"),
        ({"dev": "gone"}, "gone"),
        ({"watch": {"a": "data"}}, "watch={'a': 'data'}: it needs dev"),
        ({"model": 3}, "model='int': give a path"),
        ({"model": mini_parakeet()}, "processor=None: "),
        ({"model": "gone"}, "'gone'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_errors_speak_python(place, monkeypatch, arguments, complaint):
    monkeypatch.chdir(place)
    call = {"model": "mini", "train": "data", "config": QUICK} | arguments
    with pytest.raises(ValueError, match=complaint) as error:
        trimbre.prune(**call)
    assert "--" not in str(error.value)


def examples():
    """Names of what has an example in its docstring, with the lines of it."""
    for name in trimbre.__all__:
        text = inspect.getdoc(getattr(trimbre, name)) or ""
        if lines := re.findall(r"^\s*(?:>>>|\.\.\.) ?(.*)$", text, re.MULTILINE):
            yield pytest.param("\n".join(lines), id=name)


@pytest.mark.parametrize("example", list(examples()))
def test_every_example_runs(example, place, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "models/telephone-en").symlink_to(place / "mini")
    for name, target in (
        ("half", "half"),
        ("half-by-taylor", "half"),
        ("call.wav", "call.wav"),
        ("menu.txt", "said.txt"),
    ):
        (tmp_path / name).symlink_to(place / target)
    for name in ("train", "dev", "test"):
        (tmp_path / "data" / name).symlink_to(place / "data")
    monkeypatch.chdir(tmp_path)
    exec(re.sub(r"steps=\d+", "steps=1", example), {"trimbre": trimbre})
