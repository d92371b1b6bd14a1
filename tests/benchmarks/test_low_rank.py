"""The low-rank rival: Eckart and Young's closed form, costs that are exact, and targets that are met."""

import copy
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from helpers.families import last_states
from helpers.runs import SMALL
from torch import nn

from trimbre.config import PruneConfig
from trimbre.costs.macs import positions_of, reference_of
from trimbre.data.batches import Batch, training_batches
from trimbre.data.cuts import read_cuts
from trimbre.models.families.registry import head_of
from trimbre.pruning.targets import ModelCosts
from trimbre.training.pseudo_labels import PseudoLabeller

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "methods"))

from low_rank import (
    Components,
    Moments,
    Savings,
    factored,
    factorise,
    principal_components,
    projections,
    ranks_for,
)


def outputs_of(layer: nn.Module, frames: torch.Tensor) -> torch.Tensor:
    """(frames, outputs) of a linear layer or a pointwise convolution."""
    with torch.no_grad():
        convolves = any(isinstance(module, nn.Conv1d) for module in layer.modules())
        return layer(frames.T.unsqueeze(0))[0].T if convolves else layer(frames)


def components_of(layer: nn.Module, frames: torch.Tensor) -> Components:
    moments = Moments(layer.weight.shape[0])
    for part in outputs_of(layer, frames).split(100):
        moments.add(part)
    return moments.components()


LAYERS = {
    "linear": lambda: nn.Linear(12, 20),
    "linear without a bias": lambda: nn.Linear(20, 12, bias=False),
    "pointwise convolution": lambda: nn.Conv1d(12, 20, 1),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    torch.manual_seed(1)
    return LAYERS[request.param]().double()


@pytest.fixture
def frames(layer):
    """Correlated inputs with a mean."""
    torch.manual_seed(2)
    width = layer.weight.shape[1]
    return torch.randn(700, width).double() @ torch.randn(width, width).double() + 3 * torch.randn(width).double()


def test_no_map_of_the_rank_is_nearer(layer, frames):
    """The squared error is the energy of the singular values that are left out, for every rank."""
    dense, components = outputs_of(layer, frames), components_of(layer, frames)
    singular = torch.linalg.svdvals(dense - dense.mean(0))
    for rank in (1, 4, 11):
        error = (outputs_of(factored(layer, components, rank), frames) - dense).square().sum()
        torch.testing.assert_close(error, singular[rank:].square().sum())
    torch.testing.assert_close(
        1 - components.left[:11], singular.square().cumsum(0)[:11] / singular.square().sum(), atol=1e-12, rtol=0
    )


def test_full_rank_is_the_layer_itself(layer, frames):
    """On any input, not on those alone that the components come from."""
    whole = factored(layer, components_of(layer, frames), layer.weight.shape[0])
    other = torch.randn(50, layer.weight.shape[1]).double()
    torch.testing.assert_close(outputs_of(whole, other), outputs_of(layer, other))


@pytest.fixture
def batches(model, processor, noise_corpus) -> list[Batch]:
    stream = training_batches(read_cuts(noise_corpus), processor=processor, options=SMALL, seed=0)
    if head_of(model).reads_text:
        stream = map(PseudoLabeller(model, processor), stream)
    return list(islice(stream, 2))


@pytest.fixture
def components(model, anatomy, batches) -> dict[str, Components]:
    return principal_components(model, projections(model, anatomy, "blocks"), batches)


def with_ranks(model, components, ranks):
    """A copy with these projections factored."""
    small = copy.deepcopy(model)
    for path, rank in ranks.items():
        small.set_submodule(path, factored(model.get_submodule(path), components[path], rank))
    return small


def macs_of(model, reference) -> dict[str, float]:
    """Multiply-accumulates of every weight in a second of audio."""
    positions = positions_of(model, reference.inputs)
    matrices = {
        path: sum(p.numel() for p in model.get_submodule(path).parameters(recurse=False) if p.dim() > 1)
        for path in positions
    }
    return {path: matrices[path] * n / reference.seconds for path, n in positions.items()}


def test_a_model_of_full_rank_is_the_dense_one(model, components, padded):
    whole = with_ranks(model, components, {path: len(one.mean) for path, one in components.items()})
    with torch.no_grad():
        own, dense = (last_states(each(**padded, output_hidden_states=True)) for each in (whole, model))
    torch.testing.assert_close(own, dense, atol=1e-4, rtol=1e-4)


def test_targets_are_met_and_costs_are_exact(model, processor, anatomy, components):
    costs, reference = ModelCosts.of(model, anatomy, processor), reference_of(model, processor)
    savings = Savings.of(model, projections(model, anatomy, "blocks"), anatomy, costs, processor)
    dense = macs_of(model, reference)
    largest = max(sum(savings.shapes[path][:2]) for path in components)  # parameters of a rank
    for budget, remove in (("both", 0.1), ("macs", 0.1), ("params", 0.5)):
        ranks = ranks_for(PruneConfig(remove=remove, budget=budget), components, savings)
        removed, small = savings.shares(ranks), with_ranks(model, components, ranks)
        arithmetic = macs_of(small, reference)
        for scope, prefix in anatomy.scopes.items():
            left, whole = (
                sum(p.numel() for name, p in each.named_parameters() if name.startswith(prefix))
                for each in (small, model)
            )
            assert removed["params"][scope] == pytest.approx(1 - left / whole, abs=1e-12)
            before, after = (
                sum(macs for path, macs in each.items() if path.startswith(prefix)) for each in (dense, arithmetic)
            )
            assert removed["macs"][scope] == pytest.approx((before - after) / costs.dense()["macs"][scope], abs=1e-12)
        budgets = ("params", "macs") if budget == "both" else (budget,)
        nearest = min(removed[name]["blocks"] for name in budgets)
        one_rank = largest / costs.dense()["params"]["blocks"]
        assert remove <= nearest < remove + 2 * one_rank  # relative positions are twice as many as frames
        assert all(savings.smaller(path, rank) > 0 for path, rank in ranks.items())


@pytest.mark.once
def test_padding_is_left_out(model, components, anatomy, batches):
    """A batch that is padded to half as long again has the same components."""
    groups = projections(model, anatomy, "blocks")
    longer = [replace(batch, inputs={name: pad(value) for name, value in batch.inputs.items()}) for batch in batches]
    for path, found in principal_components(model, groups, longer).items():
        if not path.endswith("relative_k_proj"):  # of positions in the padded length
            torch.testing.assert_close(found.mean, components[path].mean, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(found.variances, components[path].variances, atol=1e-3, rtol=1e-3)


def pad(value: torch.Tensor) -> torch.Tensor:
    """(batch, time, ...) with zeros at the end."""
    return torch.cat([value, torch.zeros_like(value[:, : value.shape[1] // 2])], 1)


@pytest.mark.once
def test_what_no_rank_reaches_is_refused(model, processor, batches):
    with pytest.raises(ValueError, match=r"remove=0\.99: rank one everywhere removes \d\d\.\d%: ask for less"):
        factorise(model, processor, config=PruneConfig(remove=0.99), batches=batches)
