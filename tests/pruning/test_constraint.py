"""The controller tracks its ramp, and the search moves little to reach the exact cost."""

from itertools import product

import pytest
import torch

from trimbre.config import TargetConfig
from trimbre.costs.macs import macs_budget, reference_of
from trimbre.costs.params import params_budget
from trimbre.errors import UserError
from trimbre.plan import Plan
from trimbre.pruning.allocation import Protection, PruningTarget, check_reachable, plan_for_target
from trimbre.pruning.constraint import SETTLED, Multipliers, Ramp
from trimbre.pruning.gates import Gates, keep_probability
from trimbre.pruning.targets import shortfall

TARGETS = [pytest.param(0.3, marks=pytest.mark.once), 0.5, pytest.param(0.75, marks=pytest.mark.once)]


@pytest.fixture
def budgets(model, anatomy, processor):
    inputs = reference_of(model, processor)
    return {
        "params": [params_budget(model, anatomy)],
        "macs": [macs_budget(model, anatomy, inputs)],
        "both": [params_budget(model, anatomy), macs_budget(model, anatomy, inputs)],
    }


def learned(anatomy, budgets, target, *, steps=60, hold=20, closed=()):
    """Gates that a random walk pulls about while the multipliers hold them to the ramp."""
    torch.manual_seed(3)
    gates = Gates(anatomy)
    with torch.no_grad():
        gates.units.add_(8 * torch.rand_like(gates.units))
        gates.branches.add_(8)
        gates.units[list(closed)] = SETTLED
    multipliers, ramp = Multipliers(gates, budgets), Ramp(target, steps)
    trail = []
    for step in range(1, steps + hold + 1):
        with torch.no_grad():
            gates.units.add_(0.1 * torch.randn_like(gates.units))
        trail.append((ramp(step), multipliers.meet(ramp(step))))
    return gates, multipliers, trail


def test_a_ramp_begins_at_what_is_gone_before_anything_is_pruned():
    ramp = Ramp(0.5, 4, start=0.3)
    assert [ramp(step) for step in range(1, 6)] == pytest.approx([0.35, 0.4, 0.45, 0.5, 0.5])


def alive(gates):
    survival = keep_probability(gates.branches.detach())[gates.owner]
    return keep_probability(gates.units.detach()) * survival > 0.5


@pytest.mark.parametrize("name", ["params", "macs"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_expected_cost_never_leaves_its_ramp(anatomy, budgets, name, target):
    _, multipliers, trail = learned(anatomy, budgets[name], target)
    for wanted, reached in trail:
        assert all(abs(share - wanted) < 1e-4 for share in reached)
    assert multipliers.removed() == pytest.approx([target] * len(budgets[name]), abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.once
def test_a_target_far_away_is_met_in_one_go(anatomy, budgets, seed):
    torch.manual_seed(seed)
    gates = Gates(anatomy)
    with torch.no_grad():
        gates.units.add_(6 * torch.rand_like(gates.units))
        gates.branches.add_(6)
    assert Multipliers(gates, budgets["both"]).meet(0.5) == pytest.approx([0.5, 0.5], abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.once
def test_one_budget_is_met_where_heads_are_worth_least(anatomy, budgets, seed):
    """Heads are expensive: where one too many is gone, no remaining unit is fine enough to compensate."""
    torch.manual_seed(seed)
    scores = torch.rand(len(anatomy.owner))
    for number, group in enumerate(anatomy.groups):
        scores[anatomy.owner == number] -= 0.8 * (group.kind.name == "attention")
    free = torch.zeros(len(anatomy.groups), dtype=torch.bool)
    for target in (0.35, 0.5):
        plan = plan_for_target(PruningTarget(anatomy, budgets["macs"], target, free), scores)
        assert budgets["macs"][0].removed(plan) == pytest.approx(target, abs=0.005)


@pytest.mark.parametrize("target", TARGETS)
def test_two_budgets_are_held_together(anatomy, budgets, target):
    _, multipliers, trail = learned(anatomy, budgets["both"], target)
    assert all(share - wanted < 0.05 for wanted, reached in trail for share in reached)
    assert multipliers.removed() == pytest.approx([target] * 2, abs=0.02)


@pytest.mark.parametrize("target", TARGETS)
def test_the_search_reaches_the_exact_cost(anatomy, budgets, target):
    gates, _, _ = learned(anatomy, budgets["params"], target)
    wanted = PruningTarget(anatomy, budgets["params"], target, torch.zeros(len(anatomy.groups), dtype=torch.bool))
    plan = plan_for_target(wanted, gates.units.detach())
    scores = dict(zip(anatomy.sizes, gates.units.detach().split(gates.sizes), strict=True))
    assert budgets["params"][0].removed(plan) == pytest.approx(target, abs=0.005)
    for group in anatomy.groups:  # within a group, what scores higher stays
        kept = torch.zeros(group.size, dtype=torch.bool)
        kept[list(plan.kept[group.path])] = True
        if kept.any() and not kept.all():
            assert scores[group.path][kept].min() >= scores[group.path][~kept].max()


def test_protected_groups_stay_whole(anatomy, budgets):
    protected = Protection.parse(["attention", "0"], anatomy).mask(anatomy)
    plan = plan_for_target(PruningTarget(anatomy, budgets["params"], 0.2, protected), torch.randn(len(anatomy.owner)))
    for group, held in zip(anatomy.groups, protected.tolist(), strict=True):
        assert held == (group.kind.name == "attention" or group.layer == 0)
        if held:
            assert plan.widths[group.path] == group.size
    assert budgets["params"][0].removed(plan) == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize("multiple", [8, 32, 64])
def test_widths_are_multiples_or_whole_or_narrower(anatomy, budgets, multiple):
    free = torch.zeros(len(anatomy.groups), dtype=torch.bool)
    scores = torch.randn(len(anatomy.owner), generator=torch.Generator().manual_seed(1))
    for share in (0.1, 0.5):
        wanted = PruningTarget(anatomy, budgets["params"], share, free, multiple_of=multiple)
        plan = plan_for_target(wanted, scores)
        for group in anatomy.groups:
            width = plan.widths[group.path]
            assert group.kind.rows > 1 or width % multiple == 0 or width == group.size or group.size < multiple
        # One step of the widest group is how near a target can be missed.
        step = max(
            float(unit) * (multiple if group.size >= multiple else 1)
            for group, unit in zip(anatomy.groups, budgets["params"][0].cost.unit, strict=True)
            if group.kind.rows == 1
        )
        removed = budgets["params"][0].removed(plan)
        assert abs(removed - share) <= max(0.005, step / budgets["params"][0].dense)


@pytest.mark.parametrize("seed", range(4))
def test_no_single_step_of_rounding_brings_the_cost_nearer(anatomy, budgets, seed):
    (budget,) = budgets["params"]
    free = torch.zeros(len(anatomy.groups), dtype=torch.bool)
    scores = torch.randn(len(anatomy.owner), generator=torch.Generator().manual_seed(seed))
    for multiple, share in product((8, 16), (0.2, 0.5)):
        plan = plan_for_target(PruningTarget(anatomy, [budget], share, free, multiple_of=multiple), scores)
        miss = abs(budget.removed(plan) - share)
        for group in anatomy.groups:
            width, step = plan.widths[group.path], multiple if group.kind.rows == 1 and group.size >= multiple else 1
            for other in (width - step, width + step):
                if width and step <= other <= group.size and miss > 0.005:
                    changed = Plan(plan.sizes, dict(plan.kept) | {group.path: tuple(range(other))}, plan.skipped)
                    assert abs(budget.removed(changed) - share) >= miss - 1e-12


@pytest.mark.parametrize("multiple", [8, 32, 64])
def test_a_group_that_keeps_a_unit_is_not_rounded_away(anatomy, budgets, multiple):
    free = torch.zeros(len(anatomy.groups), dtype=torch.bool)
    scores = torch.rand(len(anatomy.owner), generator=torch.Generator().manual_seed(2))
    firsts = torch.tensor([0, *(group.size for group in anatomy.groups)]).cumsum(0)[:-1]
    scores[firsts] = 1000.0  # of every group one unit stays at any threshold
    plan = plan_for_target(PruningTarget(anatomy, budgets["params"], 0.3, free, multiple_of=multiple), scores)
    assert all(plan.widths.values())
    assert not plan.skipped


@pytest.mark.once
def test_an_unreachable_target_names_the_maximum(anatomy, budgets):
    protected = Protection.parse(["ffn"], anatomy).mask(anatomy)
    with pytest.raises(UserError, match=r"cannot remove 90\.0% of the blocks' parameters: what may be cut is \d+\.\d%"):
        check_reachable(PruningTarget(anatomy, budgets["params"], 0.9, protected))


@pytest.mark.once
def test_pruning_nothing_is_a_miss_however_little_was_asked(anatomy, budgets):
    nothing = Plan.everything(anatomy.sizes)
    assert "nothing was pruned" in shortfall(TargetConfig(remove=0.001), budgets["params"], nothing)


def test_an_unknown_protection_names_the_known_ones(anatomy):
    with pytest.raises(UserError, match=f"protect='heads'.*{', '.join(sorted(anatomy.kinds))}"):
        Protection.parse(["heads"], anatomy)
