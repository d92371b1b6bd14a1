"""Tables of times: curves are found again, and a cost is what its curves say; never a time itself."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.families import END, edge_plans, random_plan
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor
from helpers.runs import Passes

import trimbre
from trimbre.benchmark import latency_tables as measuring
from trimbre.benchmark.latency_tables import (
    cache_path,
    fit,
    measure,
    plans_of,
    sorts_of,
    table_for,
    timed_beside,
    widths_of,
)
from trimbre.benchmark.timing import with_fixed_output_length
from trimbre.cli import run
from trimbre.config import BatchConfig, GateConfig, LatencyConfig, PruneConfig, RecoveryConfig, TargetConfig
from trimbre.costs.cost import piecewise_linear
from trimbre.costs.latency import LatencyTable, check_fits, curve_key, latency_budget, signature_of
from trimbre.errors import UserError
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.inputs import features_of
from trimbre.models.loading import Recogniser, load
from trimbre.plan import Plan
from trimbre.pruning.allocation import PruningTarget, check_reachable, plan_for_target
from trimbre.pruning.constraint import Multipliers
from trimbre.pruning.gates import Gates
from trimbre.pruning.surgery import cut
from trimbre.pruning.targets import ModelCosts, missed_time

SECONDS = {"fixed": 0.02, "module": 0.004, "unit": 0.0005}
"""A recogniser whose modules take so long, and the units of its n-th sort n + 1 times as long."""


def clock(anatomy):
    """Seconds that a plan takes by closed form, beside the dense model, on a machine that slows down as it goes."""
    order = list(sorts_of(anatomy))
    sort = {group.path: order.index(curve_key(group)) for group in anatomy.groups if group.residual}
    pace = iter(range(1, 10_000))

    def seconds(plan):
        return SECONDS["fixed"] + sum(
            SECONDS["module"] + SECONDS["unit"] * (1 + sort[path]) * width
            for path, width in plan.widths.items()
            if width and path in sort
        )

    def compare(plan):
        slower = 1 + 0.1 * next(pace)
        return slower * seconds(plan), slower * seconds(Plan.everything(anatomy.sizes))

    return seconds, compare


@pytest.fixture
def table(model, processor, anatomy):
    return measure(model, processor, name="it", runtime="torch-fp32", compare=clock(anatomy)[1])


def test_the_curves_predict_every_plan(model, processor, anatomy, table):
    """As far as widths are measured: below the least a curve leads to nothing."""
    seconds, _ = clock(anatomy)
    budget = latency_budget(table, anatomy, scope="model")
    first = 1.1  # the pace of the fastest repeat
    assert table.spread < 1e-9
    assert budget.dense * table.seconds == pytest.approx(first * seconds(Plan.everything(anatomy.sizes)))
    for plan in [random_plan(anatomy, seed) for seed in range(6)] + list(edge_plans(anatomy).values()):
        lowest = {one.path: widths_of(groups)[0] for groups in sorts_of(anatomy).values() for one in groups}
        if all(width == 0 or width >= lowest.get(path, 0) for path, width in plan.widths.items()):
            assert budget.cost.of(plan) * table.seconds == pytest.approx(first * seconds(plan))


def test_modules_of_unlike_widths_share_a_curve(model, anatomy):
    small = anatomy_of(cut(model, random_plan(anatomy, 4, skip=0.1)))
    seconds, _ = clock(small)
    plans = list(plans_of(small))
    fixed, curves, spread = fit(small, plans, [seconds(plan) for plan in plans])
    assert spread < 1e-6
    assert fixed == pytest.approx(SECONDS["fixed"], rel=1e-6)
    assert set(curves) == set(sorts_of(small))


def test_no_curve_falls_however_the_clock_errs(anatomy):
    torch.manual_seed(0)
    seconds, _ = clock(anatomy)
    plans = list(plans_of(anatomy))
    costs = [seconds(plan) * (1 + 0.1 * float(torch.randn(()))) for plan in plans]
    fixed, curves, spread = fit(anatomy, plans, costs)
    assert fixed >= 0
    assert spread > 0.01
    for curve in curves.values():
        values = [cost for _, cost in curve]
        assert values == sorted(values)
        assert values[0] > 0  # or a unit's worth for its price would be no number


def test_every_kind_and_end_is_measured(anatomy):
    plans = list(plans_of(anatomy))
    assert not plans[0].changes
    assert any(plan.skipped == {group.path for group in anatomy.groups if group.skippable} for plan in plans)
    for groups in sorts_of(anatomy).values():
        seen = {plan.widths[group.path] for plan in plans for group in groups}
        assert set(widths_of(groups)) <= seen
        assert max(group.size for group in groups) in widths_of(groups)
        if groups[0].kind.rows > 1:
            assert {1, 2} <= set(widths_of(groups))


def test_a_curve_by_hand_and_its_slopes():
    cost = piecewise_linear(1.0, [[(2, 4.0), (6, 6.0)], []], {"one": 6, "other": 3})
    for width, expected in [(0, 1.0), (1, 3.0), (2, 5.0), (3, 5.5), (6, 7.0)]:
        widths = torch.tensor([float(width), 3.0], dtype=torch.float64, requires_grad=True)
        opens = torch.ones(2, dtype=torch.float64, requires_grad=True)
        value = cost(widths, opens)
        assert value.item() == expected
        if width in (1, 3):
            slopes, by_opens = torch.autograd.grad(value, (widths, opens))
            assert slopes.tolist() == [2.0 if width == 1 else 0.5, 0.0]
            assert by_opens.tolist() == [expected - 1.0, 0.0]
    assert cost.unit.tolist() == [1.0, 0.0]
    assert cost.branch.tolist() == [0.0, 0.0]


def test_what_no_cut_changes_is_the_whole_models_alone(anatomy, table):
    found = {scope: latency_budget(table, anatomy, scope=scope) for scope in anatomy.scopes}
    whole = found.pop("model")
    assert whole.cost.fixed == table.fixed > 0
    assert all(budget.cost.fixed == 0 for budget in found.values())
    assert whole.dense == pytest.approx(found["blocks"].dense + table.fixed)
    assert whole.title == "the model's measured time"


def costs_of(table, anatomy):
    """The times alone."""
    timed = [scope for scope in anatomy.scopes if scope != "front"]
    return ModelCosts({("latency", s): latency_budget(table, anatomy, scope=s) for s in timed}, table)


def test_gates_and_the_search_meet_a_target_in_time(anatomy, table):
    costs = costs_of(table, anatomy)
    budgets = costs.budgets_for(TargetConfig(remove=0.4, budget="latency"))
    gates = Gates(anatomy)
    multipliers = Multipliers(gates, budgets)
    assert multipliers.meet(0.4) == pytest.approx([0.4], abs=1e-4)
    free = torch.zeros(len(anatomy.groups), dtype=torch.bool)
    torch.manual_seed(1)
    wanted = PruningTarget(anatomy, budgets, 0.4, free)
    plan = plan_for_target(wanted, torch.randn(sum(group.size for group in anatomy.groups)))
    assert abs(budgets[0].removed(plan) - 0.4) < 0.03  # a head of these tiny models is that much
    check_reachable(replace(wanted, share=0.9))
    assert costs.shares(plan)["latency"]["blocks"] == budgets[0].removed(plan)


def test_a_real_time_factor_is_resolved_to_a_share(anatomy, table):
    costs = costs_of(table, anatomy)
    dense = costs.budgets["latency", "model"].dense
    free = torch.zeros(len(anatomy.groups), dtype=torch.bool)
    resolve_target = costs.resolve_target(TargetConfig(rtf=0.8 * dense), anatomy, free)
    assert resolve_target.rtf is None
    assert (resolve_target.budget, resolve_target.of) == ("latency", "model")
    assert resolve_target.remove == pytest.approx(0.2)
    assert costs.resolve_target(TargetConfig(), anatomy, free) == TargetConfig()
    with pytest.raises(UserError, match="nothing has to be cut"):
        costs.resolve_target(TargetConfig(rtf=dense), anatomy, free)
    with pytest.raises(UserError, match="without all that may be cut") as error:
        costs.resolve_target(TargetConfig(rtf=table.fixed), anatomy, free)
    named = float(str(error.value).split("and ")[1].split(" ")[0])
    assert costs.resolve_target(TargetConfig(rtf=1.005 * named), anatomy, free).remove < 1
    with pytest.raises(UserError, match="without all that may be cut"):
        costs.resolve_target(TargetConfig(rtf=0.8 * dense), anatomy, ~free)


def test_a_table_is_written_read_and_refused(model, anatomy, table, tmp_path):
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == table
    check_fits(table, model, anatomy, "table.json")
    data = json.loads((tmp_path / "table.json").read_text())
    sort = next(iter(data["curves"]))
    for broken, complaint in [
        ({**data, "format": 99}, "newer than this Trimbre reads"),
        ({name: value for name, value in data.items() if name != "fixed"}, "not a latency table"),
        ({**data, "curves": {**data["curves"], sort: [[4, 1.0], [2, 2.0]]}}, "does not rise"),
        ({**data, "curves": {**data["curves"], sort: [[2, 2.0], [4, 1.0]]}}, "does not rise"),
        ({**data, "curves": 3}, "not a latency table"),
        ([], "not a latency table"),
    ]:
        (tmp_path / "broken.json").write_text(json.dumps(broken))
        with pytest.raises(UserError, match=complaint):
            LatencyTable.load(tmp_path / "broken.json")
    with pytest.raises(UserError, match="shape differs"):
        check_fits(table, mini_parakeet(), anatomy_of(mini_parakeet()), "table.json")
    with pytest.raises(UserError, match="has no curve"):
        latency_budget(replace(table, curves={}), anatomy)


def test_a_table_serves_what_was_cut_from_its_model(model, anatomy, table):
    for plan in [random_plan(anatomy, 5), edge_plans(anatomy)["no modules"], edge_plans(anatomy)["no units"]]:
        kept = {g.path: plan.kept[g.path] if g.residual else range(g.size) for g in anatomy.groups}
        plan = Plan(plan.sizes, kept, plan.skipped)  # a front end that lost channels has a table of its own
        small = cut(model, plan)
        assert signature_of(small, anatomy_of(small)) == table.signature
        again = anatomy_of(small)
        check_fits(table, small, again, "table.json")
        left = latency_budget(table, again, scope="model").dense
        assert left == pytest.approx(latency_budget(table, anatomy, scope="model").cost.of(plan))


def test_recognisers_are_timed_from_audio_to_text(model, processor, anatomy):
    """From audio to text, the cut model beside the dense one."""
    given = {"runtime": "torch-fp32", "threads": 1, "seconds": 1.0, "repeats": 1}
    with timed_beside(model, processor, **given) as timed:
        for plan in list(plans_of(anatomy))[1:3]:
            assert all(seconds > 0 for seconds in timed(cut(model, plan)))


@pytest.mark.parametrize("family", ["whisper, English", "whisper, multilingual"], indirect=True)
def test_a_decoder_generates_as_many_tokens_for_any_input(model, processor, anatomy):
    inputs = features_of(clips(2.0), processor)
    everything = range(model.config.vocab_size)
    model.generation_config.suppress_tokens = [token for token in everything if token != END]  # falls silent at once
    for one in (model, cut(model, edge_plans(anatomy)["no ffn modules"])):
        written = with_fixed_output_length(one, 4.0).generate(**inputs, do_sample=False, num_beams=1)
        assert written.shape[1] in (12, 12 + 1, 12 + 4)  # with or without the tokens that it starts from
        assert one.generation_config.min_new_tokens is None


def test_a_measured_table_is_kept_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TRIMBRE_CACHE", raising=False)
    model, processor = mini_parakeet(), mini_processor()
    by_closed_form = clock(anatomy_of(model))[1]

    def table(compare, **more):
        options = LatencyConfig(**{"runtime": "torch-fp32"} | more)
        return table_for(model, processor, name="it", options=options, compare=compare)

    first = table(by_closed_form)
    assert table(lambda plan: pytest.fail("it is measured again")) == first
    table(by_closed_form, threads=2)
    monkeypatch.setattr(measuring, "machine", lambda: {"processor": "another", "cores": 1})
    assert table(by_closed_form).machine["processor"] == "another"
    assert len(list((tmp_path / "trimbre" / "latency").iterdir())) == 3
    first.save(tmp_path / "given.json")
    assert table_for(model, processor, name="it", options=LatencyConfig(table=str(tmp_path / "given.json"))) == first
    assert measuring.time_beside_dense(Recogniser(model, processor), model, first) is None  # of another machine by now
    monkeypatch.setattr(measuring, "find_spec", lambda name: None)  # as where nothing that exports is installed
    foreign = replace(first, runtime="onnx-fp32")
    assert measuring.time_beside_dense(Recogniser(model, processor), model, foreign) is None
    monkeypatch.setattr(measuring, "machine", lambda: foreign.machine)
    assert measuring.time_beside_dense(Recogniser(model, processor), model, foreign) is None


@pytest.mark.slow
def test_the_command_writes_a_table(tmp_path, capsys):
    place = str(save(mini_parakeet(), mini_processor(), tmp_path / "model"))
    out = tmp_path / "table.json"
    asked = ["bench", place, "--table", str(out), "--runtimes", "torch-fp32", "--threads", "1", "--repeats", "1"]
    assert run([*asked, "--json"]) == 0
    table = LatencyTable.load(out)
    assert (table.runtime, table.threads) == ("torch-fp32", 1)
    assert table.machine["cores"] >= 1
    assert "torch" in table.versions
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["fixed"] == table.fixed
    for arguments, complaint in [
        ([place, place, "--table", str(out)], "of one model"),
        ([place, "--table", str(out), "--threads", "1", "4"], "one with --threads"),
        ([place, "--table", str(tmp_path)], "is a folder"),
    ]:
        assert run(["bench", *arguments]) == 2
        assert complaint in capsys.readouterr().err


def test_options_that_contradict_each_other():
    for wrong in (
        lambda: TargetConfig(rtf=0.01, remove=0.3),
        lambda: TargetConfig(rtf=0.01, of="encoder"),
        lambda: TargetConfig(rtf=0.01, budget="macs"),
        lambda: TargetConfig(rtf=0.0),
        lambda: PruneConfig(latency=LatencyConfig(runtime="torch-fp32")),
        lambda: LatencyConfig(table="here.json", threads=2),
        lambda: LatencyConfig(runtime="tflite"),
    ):
        with pytest.raises(ValueError, match=r"=|need the latency budget"):
            wrong()
    asked = PruneConfig(rtf=0.01, latency=LatencyConfig(threads=2)).target
    assert (asked.budget, asked.of) == ("latency", "model")


def test_a_missed_time_is_reported():
    found = {"asked": 0.01, "unpruned": 0.02, "measured": {"pruned": 3.0, "unpruned": 6.0, "share": 0.5}}
    assert missed_time(found) is None
    slow = found | {"measured": {"pruned": 3.0, "unpruned": 5.0, "share": 0.6}}
    assert "takes 0.012" in missed_time(slow)
    assert missed_time(slow | {"asked": None}) is None
    assert missed_time(found | {"measured": None}) is None


@pytest.mark.once
@pytest.mark.slow
def test_pruning_to_a_time(model, processor, anatomy, table, noise_corpus, tmp_path, capsys):
    place = str(save(model, processor, tmp_path / "model"))
    file = tmp_path / "table.json"
    table.save(file)
    dense = latency_budget(LatencyTable.load(file), anatomy, scope="model").dense
    prune = ["prune", place, "--train", str(noise_corpus)]
    prune += "--method l0 --learn-steps 2 --recover-steps 0 --calibration-batches 1 --refit-batches 1".split()
    prune += ["--max-duration", "6", "--precision", "fp32", "--table", str(file)]
    capsys.readouterr()
    assert run([*prune, "--rtf", f"{0.8 * dense}", "--dry-run", "--out", str(tmp_path / "no")]) == 0
    assert "measured time" in capsys.readouterr().out
    run([*prune, "--rtf", f"{0.6 * dense}", "--out", str(tmp_path / "small"), "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    small = load(tmp_path / "small").model
    timed = found["latency"]
    left = latency_budget(LatencyTable.load(file), anatomy_of(small), scope="model").dense
    assert timed["pruned"] == pytest.approx(left) == pytest.approx(dense * (1 - found["removed"]["latency"]["model"]))
    assert timed["pruned"] == pytest.approx(0.6 * dense, rel=0.1)
    assert all(seconds > 0 for seconds in timed["measured"].values())
    assert found["options"]["rtf"] == 0.6 * dense
    for more, complaint in [
        (["--rtf", "1e-9"], "without all that may be cut"),
        (["--rtf", "9"], "nothing has to be cut"),
        (["--rtf", "1", "--remove", "0.5"], "--rtf"),
        (["--rtf", "1", "--budget", "both"], "--rtf"),
        (["--remove", "0.5"], "latency budget"),
    ]:
        assert run([*prune, "--out", str(tmp_path / "none"), *more]) == 2
        assert complaint in capsys.readouterr().err
    prune[-1] = "nowhere.json"
    assert run([*prune, "--budget", "latency", "--out", str(tmp_path / "none")]) == 2
    assert "cannot read the latency table nowhere.json" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.once
@pytest.mark.parametrize("cache", ["cannot be written", "holds something else"])
def test_a_cache_that_cannot_be_used_is_done_without(model, processor, anatomy, table, tmp_path, monkeypatch, cache):
    place = Path("/proc/none") if cache == "cannot be written" else tmp_path
    monkeypatch.setenv("TRIMBRE_CACHE", str(place))
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: table)
    if place == tmp_path:
        kept = cache_path(model, anatomy, "torch-fp32", 1)
        kept.parent.mkdir()
        kept.write_text('{"half": ')
    assert table_for(model, processor, name="tiny", options=LatencyConfig(runtime="torch-fp32")) == table
    if place == tmp_path:
        assert LatencyTable.load(kept) == table


@pytest.mark.once
def test_a_run_that_is_resumed_goes_by_the_same_times(
    model, processor, anatomy, table, noise_corpus, tmp_path, monkeypatch
):
    """Those that it was begun with, though others have been measured since."""
    monkeypatch.setenv("TRIMBRE_CACHE", str(tmp_path / "cache"))
    kept = cache_path(model, anatomy, "torch-fp32", 1)
    table.save(kept)
    config = PruneConfig(
        remove=0.4,
        budget="latency",
        latency=LatencyConfig(runtime="torch-fp32"),
        method="l0",
        calibration_batches=1,
        gates=GateConfig(steps=2),
        recovery=RecoveryConfig(steps=0, refit_batches=1),
        precision="fp32",
        batches=BatchConfig(max_duration=6.0, buckets=2),
    )
    place, dev = save(model, processor, tmp_path / "model"), Passes(noise_corpus, interrupted=4)
    how = {"train": noise_corpus, "dev": dev.cuts, "out": tmp_path / "small", "config": config}
    with pytest.raises(KeyboardInterrupt):
        trimbre.prune(place, **how)
    replace(table, fixed=9.0).save(kept)
    found = trimbre.prune(place, **how, resume=True).report
    assert LatencyTable.from_json(found["latency"]["table"]) == table
    assert found["removed"]["latency"]["blocks"] == pytest.approx(0.4, abs=0.05)
