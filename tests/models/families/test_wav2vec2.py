"""wav2vec 2.0 and its kin: norms first or last, and a front end that keeps a channel whatever is asked for."""

import random

import pytest
import torch
from helpers.families import FAMILIES, FRONT, shaken, tiny_kin

from trimbre.costs.macs import macs_budget, positions_of, reference_of
from trimbre.costs.params import params_budget
from trimbre.data.batches import Batch
from trimbre.errors import UserError
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import load
from trimbre.models.positions import valid_frames
from trimbre.plan import Plan
from trimbre.pruning.allocation import PruningTarget, plan_for_target
from trimbre.pruning.constraint import Multipliers
from trimbre.pruning.equivalence import random_cut, verify_cutting
from trimbre.pruning.gates import Gates
from trimbre.pruning.least_squares import RIDGE, with_ridge
from trimbre.pruning.refit import refit
from trimbre.pruning.scores.obs import collect_moments, obs_scores
from trimbre.pruning.surgery import cut

PROCESSOR = FAMILIES["wav2vec2-conformer, rotary"].processor()
KIN = ("Wav2Vec2", "Hubert", "Data2VecAudio", "UniSpeech", "UniSpeechSat")


@pytest.fixture
def model():
    return tiny("Wav2Vec2", **FRONT)


def front_of(anatomy):
    return [group for group in anatomy.groups if group.path.startswith(anatomy.scopes["front"])]


def tiny(name, **sizes):
    torch.manual_seed(0)
    return shaken(tiny_kin(name, **sizes))


@pytest.mark.parametrize("name", KIN)
@pytest.mark.parametrize("sizes", [{}, FRONT | {"do_stable_layer_norm": True}], ids=["base", "pre-norm"])
def test_masked_equals_sliced(name, sizes):
    model = tiny(name, **sizes)
    assert verify_cutting(model, PROCESSOR, plans=3) < 1e-5
    again = cut(model, random_cut(anatomy_of(model), random.Random(5))[0])
    assert verify_cutting(again, PROCESSOR, plans=2) < 1e-5


def test_language_adapters_stay_behind_their_blocks():
    model = tiny("Wav2Vec2", do_stable_layer_norm=True, adapter_attn_dim=4)
    assert [group.after for group in anatomy_of(model).groups][1].endswith("layers.0.adapter_layer")
    assert verify_cutting(model, PROCESSOR, plans=3) < 1e-5


@pytest.mark.parametrize("name", KIN)
def test_a_cut_model_is_saved_and_loaded(name, tmp_path):
    model = tiny(name, **FRONT)
    small = cut(model, random_cut(anatomy_of(model), random.Random(4))[0]).eval()
    loaded, _ = load(save(small, PROCESSOR, tmp_path / "small"))
    audio = torch.randn(2, 8_000)
    with torch.no_grad():
        assert torch.equal(loaded(audio).logits, small(audio).logits)


def test_channels_stay_where_a_norm_is_over_all_of_them():
    for name, sizes in (("Wav2Vec2", {}), ("Data2VecAudio", FRONT)):
        anatomy = anatomy_of(tiny(name, **sizes))
        assert {group.kind.name for group in anatomy.groups} == {"attention", "ffn"}
        assert "front" not in anatomy.scopes


def test_norms_follow_the_channels_before_them(model):
    anatomy = anatomy_of(model)
    small = cut(model, Plan(anatomy.sizes, {g.path: (1,) if g.least else () for g in anatomy.groups}))
    layers = small.wav2vec2.feature_extractor.conv_layers
    assert [layer.conv.out_channels for layer in layers] == [1, 1, 8]
    assert layers[0].layer_norm.num_groups == layers[0].layer_norm.num_channels == 1


def test_a_channel_of_the_front_end_stays(model):
    anatomy = anatomy_of(model)
    everything = Plan.everything(anatomy.sizes)
    for group in front_of(anatomy):
        assert (group.least, group.skippable, group.residual) == (1, False, False)
        with pytest.raises(UserError, match=f"keeps 0 front-end channels of {group.path}, which needs 1"):
            cut(model, Plan(anatomy.sizes, dict(everything.kept) | {group.path: ()}))
        with pytest.raises(UserError, match=f"skips {group.path}"):
            cut(model, Plan(anatomy.sizes, everything.kept, frozenset([group.path])))
    draw = random.Random(0)
    for _ in range(50):
        plan, _ = random_cut(anatomy, draw)
        anatomy.check(plan)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_allocation_leaves_a_channel_of_the_front_end_and_meets_the_budget(model, share):
    anatomy = anatomy_of(model)
    budget = params_budget(model, anatomy, scope="encoder")
    most = 1 - budget.cost.fixed / budget.dense
    target = PruningTarget(anatomy, [budget], share * most, torch.zeros(len(anatomy.groups)).bool())
    scores = torch.randn(len(anatomy.owner), generator=torch.Generator().manual_seed(0))
    scores[anatomy.owner < len(front_of(anatomy))] -= 100  # the channels would be the first to leave
    plan = plan_for_target(target, scores, skipped=frozenset(group.path for group in front_of(anatomy)))
    assert [plan.widths[group.path] for group in front_of(anatomy)] == [1, 1]
    assert not plan.skipped & {group.path for group in front_of(anatomy)}
    assert budget.removed(plan) == pytest.approx(target.share, abs=0.02)


def test_gates_of_what_cannot_be_skipped_are_open(model):
    gates = Gates(anatomy_of(model))
    with torch.no_grad():
        gates.branches.fill_(-10)
    for values in (gates.expected()[1], torch.stack(list(gates.noiseless().branches.values()))):
        assert values[:2].tolist() == [1, 1]
        assert values[2:].max() < 0.5


def test_gates_meet_the_target_where_some_groups_cannot_be_skipped(model):
    anatomy = anatomy_of(model)
    gates = Gates(anatomy)
    with torch.no_grad():
        gates.branches.fill_(1.0)  # not quite open, which counts only for those that can be skipped
    multipliers = Multipliers(gates, [params_budget(model, anatomy, scope="encoder")])
    assert multipliers.meet(0.3) == pytest.approx([0.3], abs=1e-4)
    assert multipliers.removed() == pytest.approx([0.3], abs=1e-4)


def test_costs_are_exact_where_two_groups_share_a_convolution(model):
    anatomy, reference = anatomy_of(model), reference_of(model, PROCESSOR)
    draw = random.Random(1)
    params = params_budget(model, anatomy, scope="front")
    macs = macs_budget(model, anatomy, reference, scope="front")
    for _ in range(4):
        plan, _ = random_cut(anatomy, draw)
        small = cut(model, plan)
        front = anatomy.scopes["front"]
        named = {name: p.numel() for name, p in small.named_parameters() if name.startswith(front)}
        assert params.cost.of(plan) == pytest.approx(sum(named.values()))
        counted = positions_of(small, reference.inputs)
        exact = sum(named[f"{path}.weight"] * n for path, n in counted.items() if path.startswith(front))
        assert macs.cost.of(plan) == pytest.approx(exact / reference.seconds)


def test_positions_between_input_and_output_are_valid_as_the_input_is(model):
    inputs = {"attention_mask": (torch.arange(24_000) < torch.tensor([[12_000], [24_000]])).long()}
    states = torch.zeros(2, 300, 8)
    valid = valid_frames(model, inputs, states, positions="inputs")
    assert valid.sum(1).tolist() == [150, 300]


def loud(model):
    """A loss that is not at its minimum."""
    return lambda batch: model(**batch.inputs).logits.square().mean()


@pytest.fixture
def batch():
    noise = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    return Batch({"input_values": noise}, None, (), (), 2.0)


def test_scores_of_channels_are_those_of_linear_layers_that_read_all_taps(model, batch):
    """Of one channel: the loss increase by autograd's second moments, with all other weights solved for."""
    group = front_of(anatomy_of(model))[0]
    consumer = model.get_submodule(group.consumer)
    (found,) = collect_moments(model, [group], [batch], loud(model))
    weight = consumer.weight.detach().double().flatten(1)
    taps = consumer.kernel_size[0]
    scores = obs_scores(model, [group], lambda: [batch], loud(model))[group.path]
    inner = with_ridge(found.inputs, RIDGE)[:-1, :-1]  # it has no bias
    alone = []
    for unit in range(group.size):
        gone = list(range(unit * taps, (unit + 1) * taps))
        inverse = torch.linalg.inv(inner)[gone][:, gone]
        alone.append(
            float((found.gradients @ weight[:, gone] @ torch.linalg.solve(inverse, weight[:, gone].T)).trace())
        )
    first = int(scores.argmin())
    assert first == min(range(group.size), key=alone.__getitem__)
    assert float(scores[first]) == pytest.approx(alone[first] / 2, rel=1e-6)


def test_the_refit_brings_a_front_end_nearer_to_the_dense_one(model, batch):
    anatomy = anatomy_of(model)
    front = {group.path: tuple(range(0, group.size, 2)) for group in front_of(anatomy)}
    plan = Plan(anatomy.sizes, dict(Plan.everything(anatomy.sizes).kept) | front)
    small = cut(model, plan)

    def apart():
        with torch.no_grad():
            ours, theirs = (one.wav2vec2.feature_extractor(batch.inputs["input_values"]) for one in (small, model))
        return float((ours - theirs).norm() / theirs.norm())

    before, blocks = apart(), small.wav2vec2.encoder.layers[0].feed_forward.output_dense.weight.clone()
    refit(small, model, [batch], plan=plan, scope="front", loss=loud(model))
    assert apart() < 0.9 * before
    assert torch.equal(small.wav2vec2.encoder.layers[0].feed_forward.output_dense.weight, blocks)
