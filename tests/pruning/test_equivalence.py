"""The proof on the model at hand: it passes for a right cut, and it would not for a wrong one."""

import pytest
import torch
from helpers.families import random_plan

from trimbre.pruning.equivalence import check_equality, verify_cutting
from trimbre.pruning.surgery import GateValues, cut


def hard(plan):
    units = {path: torch.zeros(size) for path, size in plan.sizes.items()}
    for path, kept in plan.kept.items():
        units[path][list(kept)] = 1.0
    return GateValues(units, {path: torch.tensor(float(path not in plan.skipped)) for path in plan.sizes})


def test_random_cuts_equal_their_gates(model, processor):
    assert verify_cutting(model, processor, plans=3, seed=1) <= 1e-5


def test_a_wrong_cut_is_noticed(model, anatomy, padded):
    plan = random_plan(anatomy, 3, skip=0.0)
    small = cut(model, plan)
    assert check_equality(model, small, hard(plan), padded) <= 1e-5
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.01)
    with pytest.raises(RuntimeError, match="differs"):
        check_equality(model, small, hard(plan), padded)
