"""Every method behind the one interface: the target is met, and each ranks units by what it says it does."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers.runs import QUICK, SMALL, Passes, pruned

from trimbre.config import PruneConfig, RecoveryConfig
from trimbre.costs.macs import macs_budget, reference_of
from trimbre.costs.params import params_budget
from trimbre.data.batches import Batch, training_batches
from trimbre.data.cuts import read_cuts
from trimbre.errors import UserError
from trimbre.models.checkpoint import load_plan, save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import load
from trimbre.models.positions import valid_frames
from trimbre.plan import Plan
from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods import registry
from trimbre.pruning.methods.base import PruningContext, one_shot
from trimbre.pruning.methods.l0 import agreement
from trimbre.pruning.methods.layers import evenly_spaced
from trimbre.pruning.methods.registry import known_methods, method_called, register_method
from trimbre.pruning.scores import obs
from trimbre.pruning.scores.activation import activation_scores
from trimbre.pruning.scores.block_influence import block_influence
from trimbre.pruning.scores.magnitude import magnitude_scores
from trimbre.pruning.surgery import cut, shift_biases
from trimbre.training.distillation import Distiller
from trimbre.training.loop import accelerator_for
from trimbre.training.recovery import Training
from trimbre.training.task_loss import transcript_loss

pytestmark = pytest.mark.ctc


@pytest.fixture
def target(model, anatomy, processor):
    budgets = [params_budget(model, anatomy), macs_budget(model, anatomy, reference_of(model, processor))]
    return PruningTarget(anatomy, budgets, 0.5, torch.zeros(len(anatomy.groups), dtype=torch.bool))


@pytest.fixture
def context(model, processor, noise_corpus):
    def batches(start):
        cuts = read_cuts(noise_corpus)
        return training_batches(cuts, processor=processor, options=SMALL, seed=0, start=start)

    training = Training(batches, batches, accelerator_for("fp32"), seed=0)
    distiller = Distiller(copy.deepcopy(model), QUICK.distillation)
    return PruningContext(distiller, training, transcript_loss, gates=QUICK.gates, batches=QUICK.calibration_batches)


@pytest.mark.once
def test_moments_that_do_not_fit_at_once_are_gathered_in_parts(model, context, target, monkeypatch):
    target = replace(target, protected=torch.arange(len(target.anatomy.groups)) == 1)
    # With a gradient throughout all passes take the same kernels: the last bit decides which of two like units leaves.
    context = replace(context, loss=lambda one, batch: transcript_loss(one, _with_gradient(batch)))
    free = [group for group, held in zip(target.anatomy.groups, target.protected, strict=True) if not held]
    whole = context.obs_scores(model, target)
    assert list(obs.parts(model, free)) == [free]
    monkeypatch.setattr(obs, "MOMENTS_BYTES", 1)
    assert list(obs.parts(model, free)) == [[group] for group in free]
    assert torch.allclose(context.obs_scores(model, target), whole, rtol=1e-3)
    held = whole.split([group.size for group in target.anatomy.groups])[1]
    assert (held == 0).all()


def _with_gradient(batch):
    inputs = {name: v.requires_grad_() if v.is_floating_point() else v for name, v in batch.inputs.items()}
    return replace(batch, inputs=inputs)


METHODS = [pytest.param(n, marks=pytest.mark.once) if method_called(n).TRAINS else n for n in known_methods()]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_meets_the_target(model, context, target, name):
    method = method_called(name)
    before = copy.deepcopy(model.state_dict())
    choice = method.choose(model, context, target)
    removed = [budget.removed(choice.plan) for budget in target.budgets]
    assert sum(removed) / 2 == pytest.approx(0.5, abs=0.01)
    assert (choice.fit is not None) == method.TRAINS
    learned = any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert learned == method.TRAINS
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.once
def test_without_steps_gates_are_cut_as_they_were_seeded(model, context, target):
    before = copy.deepcopy(model.state_dict())
    context = replace(context, gates=replace(QUICK.gates, steps=0))
    choice = method_called("l0").choose(model, context, target)
    assert choice.expected == pytest.approx([0.5, 0.5], abs=0.01)
    assert choice.as_seeded > 0.95
    assert sum(budget.removed(choice.plan) for budget in target.budgets) / 2 == pytest.approx(0.5, abs=0.01)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.once
def test_agreement_is_of_the_units_that_leave(anatomy):
    everything = Plan.everything(anatomy.sizes)
    first = next(iter(anatomy.sizes))
    some = Plan(anatomy.sizes, dict(everything.kept) | {first: everything.kept[first][2:]})
    fewer = Plan(anatomy.sizes, dict(everything.kept) | {first: everything.kept[first][1:]})
    assert agreement(anatomy, some, fewer) == 0.5
    assert agreement(anatomy, fewer, some) == 1
    assert agreement(anatomy, some, everything) == 0


def test_an_unknown_method_names_the_known_ones():
    with pytest.raises(UserError, match=r"method='lasso': choose one of curvature, .*random"):
        method_called("lasso")


def test_magnitude_is_the_norm_of_what_leaves(model, anatomy):
    found = dict(
        zip(anatomy.sizes, magnitude_scores(model, anatomy).split([g.size for g in anatomy.groups]), strict=True)
    )
    everything = Plan.everything(anatomy.sizes)
    model.requires_grad_(False)
    whole = sum(p.double().square().sum() for p in model.parameters())
    for group in {group.kind.name: group for group in anatomy.groups}.values():
        unit = group.size - 1
        small = cut(model, Plan(anatomy.sizes, dict(everything.kept) | {group.path: tuple(range(unit))}))
        left = sum(p.double().square().sum() for p in small.parameters())
        assert float(found[group.path][unit]) ** 2 == pytest.approx(float(whole - left), rel=1e-6)


def test_activation_scores_are_what_a_unit_adds_to_its_branch(model, context, target, padded):
    clip = {name: value[2:] for name, value in padded.items()}  # the longest, without padding
    batch = Batch(clip, None, (), (), 1.5)
    context = replace(context, training=replace(context.training, recorded=lambda start: iter([batch])))
    index, group = next((i, g) for i, g in enumerate(target.anatomy.groups) if g.kind.name == "ffn")
    scores = context.scores_of_inputs(activation_scores, model.eval(), target)
    found = scores.split([g.size for g in target.anatomy.groups])[index]
    consumer, inputs = model.get_submodule(group.consumer), []
    handle = consumer.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.no_grad():
        model(**clip)
        handle.remove()
        for unit in (0, group.size // 2):
            adds = inputs[0][..., unit, None] * consumer.weight[:, unit]
            assert float(found[unit]) == pytest.approx(float(adds.square().sum(-1).mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("count", "share", "gone"),
    [(8, 0.5, [1, 3, 4, 6]), (8, 0.75, [1, 2, 3, 4, 5, 6]), (4, 0.25, [1]), (12, 0.1, [4, 8]), (3, 1.0, [0, 1, 2])],
)
def test_layers_leave_evenly_and_the_first_and_last_stay(count, share, gone):
    found = evenly_spaced(count, share)
    stay = [place for place in range(count) if place not in found]
    assert len(found) == len(gone)
    if len(stay) > 1:
        assert (stay[0], stay[-1]) == (0, count - 1)
        gaps = [b - a for a, b in pairwise(stay)]
        assert max(gaps) - min(gaps) <= 1


@pytest.mark.once
def test_whole_layers_leave_and_one_in_part(model, context, target):
    plan = method_called("layers").choose(model, context, target).plan
    whole, gone = set(), set()
    for layer in {group.layer for group in target.anatomy.groups}:
        widths = {plan.widths[g.path] / g.size for g in target.anatomy.groups if g.layer == layer}
        whole |= {layer} if widths == {1.0} else set()
        gone |= {layer} if widths == {0.0} else set()
    assert len(whole) == 1  # of three: half of the cost is one and a half
    assert len(gone) <= 1


@pytest.mark.once
def test_module_gates_skip_modules_and_cut_at_most_a_few(model, context, target):
    plan = method_called("modules").choose(model, context, target).plan
    part = [g for g in target.anatomy.groups if 0 < plan.widths[g.path] < g.size]
    assert plan.skipped
    assert len(part) <= 3  # one of each kind, where two budgets are traded against each other


@pytest.mark.once
def test_iterative_taylor_closes_more_units_from_round_to_round(model, context, target):
    closed = []

    def counting(usual):
        def forward(inputs):
            if model.training:
                closed[-1] += int((inputs.detach().flatten(0, 1) == 0).all(0).sum())
            return usual(inputs)

        return forward

    for group in target.anatomy.groups:
        if group.kind.name == "ffn":
            consumer = model.get_submodule(group.consumer)
            consumer.forward = counting(consumer.forward)
    model.register_forward_pre_hook(lambda *_: closed.append(0) if model.training else None)
    context = replace(context, gates=replace(QUICK.gates, steps=8, ramp=1.0))
    method_called("taylor-iterative").choose(model, context, target)
    steps = [count for count in closed if count]
    assert len(steps) >= 7
    assert steps == sorted(steps)
    assert steps[-1] > 2 * steps[0]


@pytest.mark.once
@pytest.mark.slow
def test_iterative_taylor_resumes_where_it_was_stopped(model, processor, noise_corpus, tmp_path):
    teacher = str(save(model, processor, tmp_path / "teacher"))
    gates, recovery = replace(QUICK.gates, steps=8), replace(QUICK.recovery, steps=0)
    config = replace(QUICK, method="taylor-iterative", gates=gates, recovery=recovery)
    dev = Passes(noise_corpus)
    pruned(teacher, noise_corpus, tmp_path / "whole", config, dev=dev.cuts, validate_every=2)
    dev = Passes(noise_corpus, interrupted=dev.count // 2)
    with pytest.raises(KeyboardInterrupt):
        pruned(teacher, noise_corpus, tmp_path / "stopped", config, dev=dev.cuts, validate_every=2)
    pruned(teacher, noise_corpus, tmp_path / "stopped", config, dev=dev.cuts, validate_every=2, resume=True)
    assert load_plan(tmp_path / "stopped") == load_plan(tmp_path / "whole")


@pytest.mark.once
@pytest.mark.slow
def test_one_shot_without_training_is_a_whole_run(model, processor, noise_corpus, tmp_path):
    teacher = str(save(model, processor, tmp_path / "teacher"))
    options = PruneConfig(remove=0.3, method="taylor", recovery=RecoveryConfig(steps=0, refit_batches=2))
    report = pruned(teacher, noise_corpus, tmp_path / "small", options, dev=str(noise_corpus))
    assert report["audio_seconds"] == 0
    assert report["stages"] == {}
    plain = replace(options, recovery=replace(options.recovery, refit=False))
    pruned(teacher, noise_corpus, tmp_path / "plain", plain)
    uncorrected = cut(load(teacher).model, load_plan(tmp_path / "plain")).state_dict()
    refitted, as_cut = (load(tmp_path / name).model.state_dict() for name in ("small", "plain"))
    assert all(torch.allclose(value, uncorrected[name], atol=1e-6) for name, value in as_cut.items())
    assert not all(torch.allclose(value, uncorrected[name], atol=1e-3) for name, value in refitted.items())
    assert "`taylor`" in (tmp_path / "small/README.md").read_text()


@pytest.mark.once
@pytest.mark.parametrize("name", ["curvature", "taylor", "activation", "flap", "shortgpt", "llm-pruner"])
def test_scores_that_are_not_finite_are_refused(model, context, target, name):
    with torch.no_grad():
        model.get_submodule(target.anatomy.groups[0].consumer).weight[0] = float("nan")
    with pytest.raises(UserError, match=r"(scores|influence) of .* (are|is) not finite"):
        method_called(name).choose(model, context, target)


@pytest.mark.parametrize("name", ["wanda", "minitron", "llm-pruner"])
def test_modules_of_a_kind_have_one_width(model, context, target, name):
    plan = method_called(name).choose(model, context, replace(target, share=0.4)).plan
    for kind in target.anatomy.kinds:
        assert len({plan.widths[g.path] for g in target.anatomy.groups if g.kind.name == kind}) == 1


def test_the_blocks_of_least_influence_leave_first(model, context, target):
    influence = block_influence(model, target.anatomy.groups, context.calibration_batches())
    order = sorted(influence, key=influence.__getitem__)
    plan = method_called("shortgpt").choose(model, context, target).plan
    shares = {
        block: sum(plan.widths[g.path] / g.size for g in target.anatomy.groups if g.block == block) for block in order
    }
    assert list(shares.values()) == sorted(shares.values())
    assert shares[order[0]] == 0
    assert len({g.kind.name for g in target.anatomy.groups if 0 < plan.widths[g.path] < g.size}) <= 3


def test_biases_put_out_what_units_that_left_put_out_on_average(model, context, target, padded):
    """The mean output of a cut projection is the dense one's, as long as what it reads has not changed."""
    batch = Batch(padded, None, (), (), 3.0)
    training = replace(context.training, recorded=lambda start: iter([batch]))
    choice = method_called("flap").choose(model, replace(context, training=training), replace(target, share=0.3))
    group = next(g for g in target.anatomy.groups if g.path in choice.bias_shifts)
    alone = Plan(
        target.anatomy.sizes,
        dict(Plan.everything(target.anatomy.sizes).kept) | {group.path: choice.plan.kept[group.path]},
    )
    shifted = copy.deepcopy(model)
    shift_biases(shifted, {group.path: choice.bias_shifts[group.path]})
    means = [mean_output(one, group, padded) for one in (model, cut(shifted, alone), cut(model, alone))]
    assert torch.allclose(means[0], means[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(means[0], means[2], rtol=1e-2, atol=1e-3)


def mean_output(model, group, inputs):
    """(dim,) mean of a projection's output over the valid frames."""
    found = []
    handle = model.get_submodule(group.consumer).register_forward_hook(lambda module, args, out: found.append(out))
    with torch.no_grad():
        model.eval()(**inputs)
    handle.remove()
    output = found[0].transpose(1, 2) if group.kind.channel_axis == 1 else found[0]
    return output[valid_frames(model, inputs, output, positions=group.positions)].mean(0)


@pytest.mark.once
def test_a_run_shifts_the_biases_before_the_cut(model, processor, noise_corpus, tmp_path):
    teacher = str(save(model, processor, tmp_path / "teacher"))
    options = PruneConfig(
        remove=0.3, method="flap", calibration_batches=2, recovery=RecoveryConfig(steps=0, refit=False)
    )
    pruned(teacher, noise_corpus, tmp_path / "small", options)
    plan, dense, small = load_plan(tmp_path / "small"), load(teacher).model, load(tmp_path / "small").model
    moved = 0
    for group in anatomy_of(dense).groups:
        if group.path not in plan.skipped:
            before, after = (one.get_submodule(group.consumer).bias for one in (dense, small))
            assert torch.equal(before, after) == (plan.widths[group.path] == group.size)
            moved += not torch.equal(before, after)
    assert moved


class LastUnits:
    """A user's method: the last units of every group leave."""

    TRAINS = False

    def choose(self, model, context, target):
        places = -torch.arange(len(target.anatomy.owner))
        return one_shot(plan_for_target(target, ranks_within(target.anatomy, places)), target)


@pytest.mark.once
def test_a_user_s_method_prunes_by_its_name(model, processor, noise_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))
    register_method("last-units", LastUnits())
    assert known_methods()[-1] == "last-units"
    teacher = str(save(model, processor, tmp_path / "teacher"))
    config = PruneConfig(
        remove=0.3,
        budget="params",
        method="last-units",
        recovery=RecoveryConfig(steps=0, refit=False),
        calibration_batches=1,
    )
    report = pruned(teacher, noise_corpus, tmp_path / "small", config)
    plan = load_plan(tmp_path / "small")
    assert all(units == tuple(range(len(units))) for units in plan.kept.values())
    assert plan.changes
    assert report["missed"] is None
    register_method("last-units", LastUnits())  # as when a cell of a notebook is run again


@pytest.mark.once
def test_what_is_no_method_or_has_a_name_that_is_taken_is_refused():
    with pytest.raises(UserError, match="Trimbre has a method of this name"):
        register_method("taylor", LastUnits())
    with pytest.raises(UserError, match="it has no `TRAINS`"):
        register_method("nothing", object())
    assert "nothing" not in known_methods()
