"""Training state: it comes back bit for bit, is whole or absent, and belongs to the run that wrote it."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from trimbre.config import BatchConfig, GateConfig, PruneConfig
from trimbre.errors import UserError
from trimbre.training import resume as state
from trimbre.training.resume import load_state, prepare_run, save_state


class Trained:
    """Two modules and two optimizers with moments, of random values that follow from `seed`."""

    def __init__(self, seed: int, steps: int = 3):
        torch.manual_seed(seed)
        self.modules = {
            "model": nn.Sequential(nn.Conv1d(3, 5, 2), nn.BatchNorm1d(5), nn.Conv1d(5, 1, 1)),
            "gates": nn.Linear(4, 2),
        }
        model, gates = self.modules.values()
        groups = [{"params": list(model[0].parameters()), "weight_decay": 0.1}, {"params": model[2].parameters()}]
        self.optimizers = [torch.optim.AdamW(groups, lr=0.1), torch.optim.Adam(gates.parameters(), lr=0.2)]
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        loss = self.modules["model"](torch.randn(4, 3, 6)).square().mean()
        loss = loss + self.modules["gates"](torch.randn(4, 4)).square().mean()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def tensors(self) -> dict[tuple, torch.Tensor]:
        values = {(n, key): value for n, module in self.modules.items() for key, value in module.state_dict().items()}
        for n, optimizer in enumerate(self.optimizers):
            for index, moments in optimizer.state_dict()["state"].items():
                values |= {(n, index, name): value for name, value in moments.items()}
        return values

    def save(self, folder: Path, step: int) -> None:
        save_state(folder, step, modules=self.modules, optimizers=self.optimizers, numbers={"loss": step / 3})

    def load(self, folder: Path):
        return load_state(folder, modules=self.modules, optimizers=self.optimizers)


def assert_alike(one: Trained, other: Trained) -> None:
    mine, theirs = one.tensors(), other.tensors()
    assert mine.keys() == theirs.keys()
    assert len(mine) > 15
    for name, value in mine.items():
        assert value.dtype == theirs[name].dtype, name
        assert torch.equal(value, theirs[name]), name


def test_modules_and_optimizers_come_back_bit_for_bit_and_step_on_alike(tmp_path):
    saved = Trained(0)
    saved.save(tmp_path, 3)
    for steps in (0, 2):  # into a fresh one, and into one that was trained otherwise
        loaded = Trained(1, steps)
        assert loaded.load(tmp_path) == {"step": 3, "loss": 1.0}
        assert_alike(saved, loaded)
    for trained in (saved, loaded):
        torch.manual_seed(5)
        trained.step()
    assert_alike(saved, loaded)


def test_nothing_was_saved_yet(tmp_path):
    assert Trained(0).load(tmp_path) is None
    assert Trained(0).load(tmp_path / "nowhere") is None


def test_the_newest_two_are_kept(tmp_path):
    trained = Trained(0)
    for step in (5, 50, 500, 99_999_999):
        trained.save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000500", "step-99999999"]
    assert trained.load(tmp_path)["step"] == 99_999_999


@pytest.mark.parametrize("failing", ["save_file", "json"])
def test_a_crash_while_writing_leaves_the_state_before(tmp_path, monkeypatch, failing):
    before = Trained(0)
    before.save(tmp_path, 3)

    def crash(*args, **kwargs):
        raise OSError("the disk is full")

    if failing == "json":
        monkeypatch.setattr(state.json, "dumps", crash)
    else:
        monkeypatch.setattr(state, "save_file", crash)
    for step in (3, 4):  # also while it writes the same step anew
        with pytest.raises(OSError, match="full"):
            Trained(1).save(tmp_path, step)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]
    loaded = Trained(2)
    assert loaded.load(tmp_path)["step"] == 3
    assert_alike(before, loaded)


def test_what_a_killed_writer_left_is_no_state(tmp_path):
    trained = Trained(0)
    trained.save(tmp_path, 3)
    (tmp_path / ".step-00000009.x.part").mkdir()
    assert trained.load(tmp_path)["step"] == 3


def test_no_pickle_is_written(tmp_path):
    Trained(0).save(tmp_path, 3)
    assert {path.suffix for path in tmp_path.glob("*/*")} == {".safetensors", ".json"}


def settings(options: PruneConfig = PruneConfig()):  # noqa: B008  frozen
    return {"model": "big", "train": "speech", "options": asdict(options), "processes": 2}


def test_a_run_is_begun_then_resumed(tmp_path):
    run = prepare_run(tmp_path / "small", settings(), resume=False)
    assert run.is_dir()
    assert run.parent == tmp_path
    assert not (tmp_path / "small").exists()
    assert prepare_run(tmp_path / "small", settings(), resume=True) == run


def test_what_cannot_be_begun_or_resumed_is_refused_and_nothing_is_written(tmp_path):
    out = tmp_path / "small"
    with pytest.raises(UserError, match=r"resume=True: there is no unfinished run for .*small"):
        prepare_run(out, settings(), resume=True)
    assert not list(tmp_path.iterdir())
    out.mkdir()
    (out / "config.json").touch()
    for resume in (False, True):
        with pytest.raises(UserError, match=r"out='.*small': it already exists"):
            prepare_run(out, settings(), resume=resume)
    with pytest.raises(UserError, match=r"out='\.': it already exists"):
        prepare_run(Path("."), settings(), resume=False)
    assert list(tmp_path.iterdir()) == [out]


def test_another_run_is_not_overwritten(tmp_path):
    prepare_run(tmp_path / "small", settings(), resume=False)
    with pytest.raises(UserError, match=r"out='.*small': it has an unfinished run in .*small\.run: resume it"):
        prepare_run(tmp_path / "small", settings(), resume=False)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (settings() | {"model": "bigger"}, "with model big:"),
        (settings() | {"train": "noise"}, "with train=speech:"),
        (settings(PruneConfig(gates=GateConfig(steps=7))), f"with gates.steps={GateConfig().steps}:"),
        (settings(PruneConfig(remove=0.3)), "with remove=0.5:"),
        (settings(replace(PruneConfig(), seed=3)), "with seed=0:"),
        (settings(PruneConfig(batches=BatchConfig(max_duration=3.0))), "with batches.max_duration=32.0:"),
        (settings() | {"processes": 1}, "with 2 processes:"),
    ],
)
def test_a_run_is_not_resumed_with_other_options(tmp_path, other, named):
    prepare_run(tmp_path / "small", settings(), resume=False)
    with pytest.raises(UserError, match=named):
        prepare_run(tmp_path / "small", other, resume=True)
    prepare_run(tmp_path / "small", settings(), resume=True)
