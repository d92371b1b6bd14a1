"""The training loop: however it's stopped, going on repeats the uninterrupted run bit for bit."""

import random
import signal
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn

from trimbre.data.batches import Batch
from trimbre.errors import UserError
from trimbre.training.loop import FitResult, accelerator_for, fit

STEPS = 12


class Regression:
    """A small network with all that makes resuming hard: dropout, running statistics, an average kept by `on_step`."""

    def __init__(self, seed: int = 0):
        torch.manual_seed(0)
        self.seed = seed
        self.network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.average = nn.Linear(3, 8).requires_grad_(False)
        self.modes: list[bool] = []
        self.stop = {"batch": None, "objective": None, "on_step": None, "validate": None}
        """Step, from 0, at which to press Ctrl-C there."""
        self.press = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
        self.loss_factor = 1.0

    def fit(self, state_dir: Path | None = None, *, stage: str = "test", **options) -> FitResult:
        first, last = self.network[0], self.network[3]
        optimizers = [torch.optim.AdamW(first.parameters(), lr=0.1), torch.optim.Adam(last.parameters(), lr=0.05)]
        given = {"steps": STEPS, "validate": self.validate, "validate_every": 4, "save_every": 5} | options
        return fit(
            stage=stage,
            batches=self.batches,
            objective=self.objective,
            optimizers=optimizers,
            modules={"network": self.network.train(), "average": self.average},
            accelerator=accelerator_for("fp32"),
            seed=self.seed,
            schedule=lambda step: 1 / (1 + step),
            on_step=self.on_step,
            state_dir=state_dir,
            **given,
        )

    def maybe_stop(self, where: str, step: int) -> None:
        if self.stop[where] == step:
            self.stop[where] = None
            self.press()

    def batches(self, start: int):
        for step in count(start):
            self.maybe_stop("batch", step)
            draw = torch.Generator().manual_seed(step)
            x, y = torch.randn(6, 3, generator=draw), torch.randn(6, 1, generator=draw)
            yield Batch({"x": x}, y, (), (), seconds=0.1 * (step + 1))

    def objective(self, batch: Batch, step: int):
        self.modes.append(self.network.training)
        loss = (self.network(batch.inputs["x"]) - batch.labels).square().mean() * self.loss_factor
        self.maybe_stop("objective", step)  # the running statistics have moved already
        return {"loss": loss, "half": loss.detach() / 2}

    def on_step(self, step: int):
        self.average.weight.lerp_(self.network[0].weight.detach(), 0.3)
        self.maybe_stop("on_step", step - 1)
        return {"average": float(self.average.weight.mean())}

    def validate(self, step: int):
        self.network.eval()
        self.maybe_stop("validate", step - 1)
        with torch.no_grad():
            return {"error": float(self.network(torch.ones(1, 3)))}

    def outcome(self, result: FitResult):
        weights = {f"{n}.{key}": v for n in ("network", "average") for key, v in getattr(self, n).state_dict().items()}
        return weights, result.steps, result.audio_seconds, result.curve


def assert_alike(one, other) -> None:
    assert one[1:] == other[1:]
    for name, value in one[0].items():
        assert torch.equal(value, other[0][name]), name


@pytest.fixture(autouse=True)
def interruptible():
    """A process that was started in the background ignores Ctrl-C."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.fixture(scope="module")
def uninterrupted():
    trained = Regression()
    return trained.outcome(trained.fit())


def test_a_run_is_what_its_arguments_say(uninterrupted, capfd):
    _, steps, audio, curve = uninterrupted
    assert steps == STEPS
    assert audio == pytest.approx(0.1 * sum(range(1, STEPS + 1)))
    assert [point["step"] for point in curve] == [4, 8, 12]
    assert curve[0]["audio_seconds"] == pytest.approx(0.1 * (1 + 2 + 3 + 4))
    trained = Regression()
    torch.manual_seed(99)  # what was drawn before makes no difference
    assert_alike(trained.outcome(trained.fit(save_every=0)), uninterrupted)
    assert all(trained.modes)  # validation left the model in train mode
    assert "test 12/12" not in capfd.readouterr().err  # a stage of a moment leaves no line in a log


def test_random_numbers_follow_from_seed_and_stage(uninterrupted):
    for trained, stage in ((Regression(seed=1), "test"), (Regression(), "other")):
        weights, *_ = trained.outcome(trained.fit(stage=stage))
        assert not torch.equal(weights["network.3.weight"], uninterrupted[0]["network.3.weight"])


@pytest.mark.parametrize("where", ["batch", "objective", "on_step", "validate"])
@pytest.mark.parametrize("seed", range(4))
def test_interrupted_and_resumed_equals_uninterrupted(uninterrupted, tmp_path, where, seed):
    step = random.Random(f"{where}{seed}").randrange(STEPS)
    stopped = Regression()
    stopped.stop[where] = step // 4 * 4 + 3 if where == "validate" else step
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(tmp_path)
    resumed = Regression()
    assert_alike(resumed.outcome(resumed.fit(tmp_path)), uninterrupted)


@pytest.mark.parametrize("kept", [4, 8])
def test_killed_and_begun_again_from_an_older_state_equals_uninterrupted(uninterrupted, tmp_path, kept):
    Regression().fit(tmp_path, steps=kept)  # of what it did after this state, nothing is left
    resumed = Regression()
    assert_alike(resumed.outcome(resumed.fit(tmp_path)), uninterrupted)
    assert len(resumed.modes) == STEPS - kept


def test_ctrl_c_is_held_back_until_the_step_is_done_and_its_state_saved(uninterrupted, tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    stopped = Regression()
    stopped.press = lambda: signal.raise_signal(signal.SIGINT)
    stopped.stop["objective"] = 6
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(tmp_path, save_every=0)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000007"]
    assert signal.getsignal(signal.SIGINT) is handler
    resumed = Regression()
    assert_alike(resumed.outcome(resumed.fit(tmp_path)), uninterrupted)
    assert len(resumed.modes) == STEPS - 7


def test_a_second_ctrl_c_breaks_through_and_saves_no_half_step(tmp_path):
    stopped = Regression()
    stopped.press = lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)]
    stopped.stop["objective"] = 6
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(tmp_path, save_every=5)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_finished_stage_is_not_run_again(uninterrupted, tmp_path):
    Regression().fit(tmp_path)
    again = Regression()
    again.stop = dict.fromkeys(again.stop, 0)
    assert_alike(again.outcome(again.fit(tmp_path)), uninterrupted)
    assert not again.modes


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_refused_with_what_to_do(tmp_path, factor):
    trained = Regression()
    trained.fit(tmp_path, steps=5)
    broken = Regression()
    broken.loss_factor = factor
    with pytest.raises(UserError, match=r"loss is (nan|inf) at step 6 of test.*lower learning rate"):
        broken.fit(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


@pytest.mark.parametrize("clip_norm", [0.5, 100.0])
def test_the_schedule_scales_the_rates_and_gradients_are_clipped_to_their_norm(clip_norm):
    slope = torch.tensor([3.0, 4.0])  # of norm 5: the gradient of a linear loss
    pair = nn.Linear(2, 1, bias=False)
    before = pair.weight.detach().clone()
    fit(
        stage="test",
        steps=3,
        batches=lambda start: iter([Batch({}, None, (), (), 1.0)] * 3),
        objective=lambda batch, step: {"loss": (pair.weight * slope).sum()},
        optimizers=[torch.optim.SGD([{"params": [pair.weight], "lr": 0.1}])],
        modules={"pair": pair},
        accelerator=accelerator_for("fp32"),
        seed=0,
        schedule=lambda step: [1.0, 0.5, 0.0][step],
        clip_norm=clip_norm,
    )
    gradient = slope * min(1.0, clip_norm / 5)
    assert torch.allclose(pair.weight.detach(), before - 0.1 * 1.5 * gradient, atol=1e-6)


def test_one_process_may_train_in_several_precisions():
    product = {}
    for precision in ("fp32", "bf16", "fp32"):
        with accelerator_for(precision).autocast():
            product[precision] = torch.ones(2, 2) @ torch.ones(2, 2)
    assert (product["fp32"].dtype, product["bf16"].dtype) == (torch.float32, torch.bfloat16)


def test_an_unknown_precision_is_refused_by_name():
    with pytest.raises(UserError, match=r"precision='fp16': choose one of auto, bf16, fp32"):
        accelerator_for("fp16")


def test_batches_accumulate_into_one_step():
    """Two batches a step give the gradient of their mean loss: that of one batch which holds both."""

    def trained(batches, accumulate):
        network = nn.Linear(3, 1)
        with torch.no_grad():
            network.weight.fill_(0.5)
            network.bias.zero_()

        def objective(batch: Batch, step: int):
            return {"loss": (network(batch.inputs["x"]) - batch.labels).square().mean()}

        result = fit(
            stage="test",
            steps=3,
            batches=batches,
            objective=objective,
            optimizers=[torch.optim.SGD(network.parameters(), lr=0.1)],
            modules={"network": network},
            accelerator=accelerator_for("fp32"),
            seed=0,
            accumulate=accumulate,
        )
        return network.weight.detach(), result.audio_seconds

    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 4, 3, generator=draw), torch.randn(6, 4, 1, generator=draw)

    def apart(start: int):
        return (Batch({"x": x[i]}, y[i], (), (), 1.0) for i in range(start, 6))

    def joined(start: int):
        return (Batch({"x": x[i : i + 2].flatten(0, 1)}, y[i : i + 2].flatten(0, 1), (), (), 2.0) for i in (0, 2, 4))

    (one, seconds), (other, as_many) = trained(apart, 2), trained(joined, 1)
    assert torch.allclose(one, other, atol=1e-6)
    assert seconds == as_many == 6.0
