"""float64 where a device has none: on a device that refuses it results are those of one that computes in it."""

import copy

import pytest
import torch
from helpers.families import random_plan
from torch import nn

from trimbre.costs.params import params_budget
from trimbre.data.batches import Batch
from trimbre.models.positions import valid_frames
from trimbre.pruning import numerics
from trimbre.pruning.constraint import Multipliers
from trimbre.pruning.gates import Gates
from trimbre.pruning.methods.l0 import seed_from_ranks
from trimbre.pruning.numerics import has_float64
from trimbre.pruning.refit import refit
from trimbre.pruning.scores.activation import activation_scores, minitron_scores, wanda_scores
from trimbre.pruning.scores.block_influence import block_influence
from trimbre.pruning.scores.coupled_taylor import coupled_taylor_scores
from trimbre.pruning.scores.fluctuation import fluctuation_scores, fluctuations
from trimbre.pruning.scores.magnitude import magnitude_scores
from trimbre.pruning.scores.obs import obs_scores
from trimbre.pruning.surgery import GateValues, cut


class OnMps(torch.Tensor):
    """A tensor as if on a device without float64: it computes as on the CPU and refuses that precision."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            made = func(*args, **(kwargs or {}))
        if func is torch.Tensor.cpu or (func is torch.Tensor.to and torch.device("cpu") in args):
            return made.as_subclass(torch.Tensor)
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor) and one.dtype == torch.float64:
                raise RuntimeError("no float64 here")  # a TypeError would have Python try the other operand
        return _moved(made)


def _moved(made):
    if type(made) is torch.Tensor:
        return made.as_subclass(OnMps)
    return type(made)(map(_moved, made)) if type(made) in (tuple, list) else made


def moved_to_mps(module: nn.Module) -> nn.Module:
    """A copy of a module whose tensors are `OnMps`."""
    module = copy.deepcopy(module)
    for part in module.modules():
        for name, one in part._parameters.items():
            if one is not None:
                data = one.detach().as_subclass(OnMps)
                part._parameters[name] = nn.Parameter(data, requires_grad=one.requires_grad)
        for name, one in part._buffers.items():
            part._buffers[name] = one if one is None else one.as_subclass(OnMps)
    return module


@pytest.fixture
def without_float64(monkeypatch):
    monkeypatch.setattr(numerics, "has_float64", lambda device_type: False)


def test_devices_are_tried_out():
    assert has_float64("cpu")
    assert not has_float64("mps") or torch.backends.mps.is_available()  # where there is none, torch raises as well


def test_the_stand_in_refuses_float64():
    tensor = torch.ones(3).as_subclass(OnMps)
    with pytest.raises(RuntimeError, match="no float64"):
        tensor.double()
    with pytest.raises(RuntimeError, match="no float64"):
        tensor + torch.ones(3, dtype=torch.float64)
    assert type(tensor + 1) is OnMps
    assert tensor.cpu().double().dtype == torch.float64


def test_gates_and_their_constraint(model, anatomy, without_float64):
    budgets = [params_budget(model, anatomy)]
    scores = torch.rand(len(anatomy.owner), generator=torch.Generator().manual_seed(0))
    found = []
    for place in (copy.deepcopy, moved_to_mps):
        gates = place(Gates(anatomy))
        seed_from_ranks(gates, scores, budgets, spread=8.0)
        reached = Multipliers(gates, budgets).meet(0.4)
        widths, opens = gates.expected()
        assert widths.dtype == opens.dtype == torch.float64
        found.append((gates.units.detach().cpu(), reached, widths.detach().cpu()))
        gates.set_values(GateValues.open(anatomy))
        assert (gates.units.detach().cpu() == 1e4).all()
    (units, reached, widths), (again, same, alike) = found
    assert torch.equal(units, again)
    assert reached == same
    assert torch.equal(widths, alike)


def test_scores_and_refit(model, anatomy, padded, without_float64):
    small = cut(model, random_plan(anatomy, 1, skip=0.1))
    found = []
    for place in (copy.deepcopy, moved_to_mps):
        dense, mine = place(model), place(small)
        inputs = {
            name: value.as_subclass(OnMps) if place is moved_to_mps and value.is_floating_point() else value
            for name, value in padded.items()
        }
        batch = Batch(inputs, None, (), (), 3.0)

        def loss(batch, dense=dense):
            logits = dense(**batch.inputs).logits
            return logits[valid_frames(dense, batch.inputs, logits)].square().mean()

        scores = obs_scores(dense, anatomy.groups, lambda batch=batch: [batch], loss)
        groups = anatomy.groups
        more = [scored(dense, groups, [batch]) for scored in (activation_scores, wanda_scores, minitron_scores)]
        more += [magnitude_scores(dense, anatomy), coupled_taylor_scores(dense, anatomy, [batch], loss)]
        more += fluctuation_scores(dense, groups, fluctuations(dense, groups, [batch]))
        more.append(torch.tensor(list(block_influence(dense, groups, [batch]).values())))
        refit(mine, dense, [batch], loss=loss)
        found.append((scores, more, {name: value.cpu() for name, value in mine.state_dict().items()}))
    (scores, more, weights), (again, alike, same) = found
    assert all(torch.equal(value, again[path]) for path, value in scores.items())
    assert all(torch.equal(one, other) for one, other in zip(more, alike, strict=True))
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
