"""Scores from activations, of blocks and of coupled weights, against closed forms written out per utterance."""

import copy

import pytest
import torch
from helpers.families import FAMILIES, shaken
from torch.nn import functional

from trimbre.data.batches import Batch
from trimbre.models.families.registry import anatomy_of
from trimbre.models.positions import valid_frames
from trimbre.plan import Plan
from trimbre.pruning.scores.activation import minitron_scores, wanda_scores
from trimbre.pruning.scores.block_influence import block_influence
from trimbre.pruning.scores.coupled_taylor import coupled_taylor_scores
from trimbre.pruning.scores.fluctuation import Fluctuation, bias_shifts, fluctuation_scores, fluctuations
from trimbre.pruning.unfolding import read_by


@pytest.fixture
def batch(padded):
    return Batch(padded, None, (), (), 3.0)


@pytest.fixture
def entered(model, anatomy, padded):
    """Path of a group -> what its consumer reads at the valid positions of every utterance, (positions, channels)."""
    found, handles = {}, []

    def record(group):
        def hook(module, args):
            units = read_by(module, args[0], group)
            valid = valid_frames(model, padded, units, positions=group.positions)
            found[group.path] = [one[own].double() for one, own in zip(units, valid, strict=True)]

        return hook

    for group in anatomy.groups:
        handles.append(model.get_submodule(group.consumer).register_forward_pre_hook(record(group)))
    with torch.no_grad():
        model(**padded)
    for handle in handles:
        handle.remove()
    return found


def columns(model, group):
    return model.get_submodule(group.consumer).weight.detach().double().flatten(1)


def width(model, group):
    """Columns of one unit."""
    return columns(model, group).shape[1] // group.size


def split(scores, anatomy):
    return zip(anatomy.groups, scores.split([group.size for group in anatomy.groups]), strict=True)


def test_wanda_sums_weights_times_the_norm_of_what_they_read(model, anatomy, batch, entered):
    for group, own in split(wanda_scores(model, anatomy.groups, [batch, batch]), anatomy):
        frames = torch.cat(entered[group.path])
        for unit in (0, group.size - 1):
            channels = range(unit * width(model, group), (unit + 1) * width(model, group))
            wanted = sum(columns(model, group)[:, c].abs().sum() * frames[:, c].norm() for c in channels)
            assert float(own[unit]) == pytest.approx(float(wanted) / len(frames) ** 0.5, rel=1e-5)


def test_minitron_averages_over_time_and_takes_the_norm_over_utterances(model, anatomy, batch, entered):
    for group, own in split(minitron_scores(model, anatomy.groups, [batch]), anatomy):
        for unit in (0, group.size - 1):
            channels = slice(unit * width(model, group), (unit + 1) * width(model, group))
            means = [clip[:, channels].square().sum(1).sqrt().mean() for clip in entered[group.path]]
            assert float(own[unit]) == pytest.approx(float(torch.stack(means).square().sum().sqrt()), rel=1e-5)


def test_fluctuation_is_the_variance_over_frames_by_the_weights(model, anatomy, batch, entered):
    found = fluctuations(model, anatomy.groups, [batch])
    scores = fluctuation_scores(model, anatomy.groups, found)
    for group, moments, own in zip(anatomy.groups, found, scores, strict=True):
        frames = torch.cat(entered[group.path])
        assert torch.allclose(moments.mean, frames.mean(0), atol=1e-5)
        metric = frames.var(0, correction=0) * columns(model, group).square().sum(0)
        metric = (metric - metric.mean()) / metric.std(correction=0)
        assert torch.allclose(own, metric.reshape(group.size, -1).mean(1), atol=1e-4)


@pytest.mark.once
def test_frames_weigh_the_same_in_batches_of_unequal_length(model, anatomy, padded, entered):
    batches = [
        Batch({name: value[part] for name, value in padded.items()}, None, (), (), 1.0) for part in ([0, 1], [2])
    ]
    for group, moments in zip(anatomy.groups, fluctuations(model, anatomy.groups, batches), strict=True):
        assert torch.allclose(moments.mean, torch.cat(entered[group.path]).mean(0), atol=1e-4)


@pytest.mark.once
def test_channels_that_fluctuate_alike_score_zero(model, anatomy):
    group = anatomy.groups[0]
    weight = columns(model, group)
    even = Fluctuation(torch.ones(weight.shape[1]), 1 / weight.square().sum(0))
    assert fluctuation_scores(model, [group], [even])[0].tolist() == [0.0] * group.size


def test_shifts_are_the_mean_output_of_what_leaves(model, anatomy, batch, entered):
    found = fluctuations(model, anatomy.groups, [batch])
    everything = Plan.everything(anatomy.sizes)
    assert bias_shifts(model, anatomy.groups, found, everything) == {}
    biased = (one for one in anatomy.groups if model.get_submodule(one.consumer).bias is not None)
    group = next(one for one in biased if one.residual)  # whose consumer reads one position at once
    skipped = next(one.path for one in anatomy.groups if one is not group and one.skippable)
    kept = dict(everything.kept) | {group.path: tuple(range(1, group.size)), skipped: ()}
    shifts = bias_shifts(model, anatomy.groups, found, Plan(anatomy.sizes, kept, frozenset({skipped})))
    assert list(shifts) == [group.path]
    first = torch.cat(entered[group.path])[:, : group.kind.rows]
    wanted = (first @ columns(model, group)[:, : group.kind.rows].T).mean(0)
    assert torch.allclose(shifts[group.path], wanted, atol=1e-5)


def test_a_projection_without_a_bias_has_no_shift(model, anatomy, batch):
    group = anatomy.groups[0]
    model.get_submodule(group.consumer).bias = None
    found = fluctuations(model, [group], [batch])
    everything = Plan.everything(anatomy.sizes)
    kept = dict(everything.kept) | {group.path: tuple(range(1, group.size))}
    assert bias_shifts(model, [group], found, Plan(anatomy.sizes, kept)) == {}


def test_influence_is_one_less_the_cosine_over_a_block(model, anatomy, batch, padded):
    found = block_influence(model, anatomy.groups, [batch, batch])
    blocks = {group.block: group for group in anatomy.groups if group.residual}
    assert list(found) == list(blocks)
    for block, group in blocks.items():
        seen = []
        handle = model.get_submodule(block).register_forward_hook(
            lambda module, args, kwargs, out, seen=seen: seen.append((kwargs.get("hidden_states", *args[:1]), out)),
            with_kwargs=True,
        )
        with torch.no_grad():
            model(**padded)
        handle.remove()
        before, after = seen[0][0], seen[0][1] if torch.is_tensor(seen[0][1]) else seen[0][1][0]
        valid = valid_frames(model, padded, after, positions=group.positions)
        wanted = 1 - functional.cosine_similarity(before[valid].double(), after[valid].double(), dim=-1).mean()
        assert found[block] == pytest.approx(float(wanted), rel=1e-5, abs=1e-7)


@pytest.mark.family("whisper, English")
def test_a_block_that_adds_nothing_has_no_influence():
    """A pre-norm block, whose output is its input; a Conformer's normalises its output and turns it by that alone."""
    model = shaken(FAMILIES["whisper, English"].build())
    anatomy = anatomy_of(model)
    idle = anatomy.groups[0].block
    with torch.no_grad():
        for group in anatomy.groups:
            if group.block == idle:
                for parameter in model.get_submodule(group.consumer).parameters():
                    parameter.zero_()
    inputs = {
        "input_features": torch.randn(2, model.config.num_mel_bins, 2 * model.config.max_source_positions),
        "decoder_input_ids": torch.tensor([[1, 2, 3], [4, 5, 6]]),
    }
    found = block_influence(model, anatomy.groups, [Batch(inputs, None, (), (), 2.0)])
    assert found.pop(idle) == pytest.approx(0, abs=1e-6)
    assert min(found.values()) > 1e-4


def test_coupled_taylor_sums_what_leaves_times_its_gradient(model, anatomy, padded):
    model.double()
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in padded.items()}

    def loss(factor):
        logits = model(**inputs).logits
        return factor * logits[valid_frames(model, inputs, logits)].square().mean()

    both = [coupled_taylor_scores(model, anatomy, [1, 3], loss, vectors=vectors) for vectors in (False, True)]
    parameters = dict(model.named_parameters())
    model.requires_grad_(True)
    gradients = torch.autograd.grad(loss(2), list(parameters.values()), allow_unused=True)
    products = {
        name: value.detach() * gradient
        for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
        if gradient is not None
    }
    for group, own, by_vectors in zip(
        anatomy.groups, *(scores.split([g.size for g in anatomy.groups]) for scores in both), strict=True
    ):
        unit, wanted, vectors = group.size - 1, 0.0, 0.0
        for row in group.kind.slices:
            product = products.get(f"{group.home}.{row.tensor}")
            if product is None:
                continue
            product = product.movedim(row.axis, 0)
            for repeat in range(row.repeats):
                start = (repeat * group.size + unit) * row.rows
                for vector in product[start : start + row.rows]:
                    wanted += float(vector.abs().sum())
                    vectors += abs(float(vector.sum()))
        assert float(own[unit]) == pytest.approx(wanted, rel=1e-6)
        assert float(by_vectors[unit]) == pytest.approx(vectors, rel=1e-6)


@pytest.mark.once
@pytest.mark.parametrize(
    "scored", [wanda_scores, minitron_scores, block_influence, fluctuations, coupled_taylor_scores]
)
def test_two_processes_score_as_one_that_runs_the_batches_of_both(model, anatomy, padded, scored):
    batches = [Batch({n: value[part] for n, value in padded.items()}, None, (), (), 1.0) for part in ([0, 2], [1, 2])]
    coupled = scored is coupled_taylor_scores
    what = anatomy if coupled else anatomy.groups
    more = [lambda batch: model(**batch.inputs).logits.square().mean()] if coupled else []
    own = [[], []]
    for kept, batch in zip(own, batches, strict=True):
        scored(model, what, [batch], *more, reduce_mean=lambda one, kept=kept: kept.append(one) or one)
    means = [(one + other) / 2 for one, other in zip(*own, strict=True)]
    found = numbers(scored(model, what, batches[:1], *more, reduce_mean=lambda one: means.pop(0)))
    assert torch.allclose(found, numbers(scored(model, what, batches, *more)), rtol=1e-4, atol=1e-7)


def numbers(found):
    """All numbers of scores, of whatever form, in a row."""
    if isinstance(found, dict):
        return torch.tensor(list(found.values()))
    return found if torch.is_tensor(found) else torch.cat([part for one in found for part in (one.mean, one.variance)])


@pytest.mark.parametrize("scoring", ["inputs", "blocks", "coupled"])
def test_scoring_leaves_the_model_as_it_was(model, anatomy, batch, scoring):
    before = copy.deepcopy(model.state_dict())
    first = next(model.parameters())
    first.requires_grad_(False)
    learned = [parameter.requires_grad for parameter in model.parameters()]
    model.train()
    if scoring == "inputs":
        wanda_scores(model, anatomy.groups, [batch])
    elif scoring == "blocks":
        block_influence(model, anatomy.groups, [batch])
    else:
        coupled_taylor_scores(model, anatomy, [0], lambda _: model(**batch.inputs).logits.square().mean())
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == learned
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
