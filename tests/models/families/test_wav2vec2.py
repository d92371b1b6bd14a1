"""wav2vec 2.0 and its kin: norms first or last, and a front end that keeps a channel whatever is asked for."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.families import FAMILIES, FRONT, edge_plans, shaken, tiny_kin
from safetensors.torch import load_file
from transformers import AutoModelForCTC, SeamlessM4TFeatureExtractor, Wav2Vec2BertProcessor

import trimbre
from trimbre.costs.macs import macs_budget, positions_of, reference_of
from trimbre.costs.params import params_budget
from trimbre.costs.size import size
from trimbre.data.batches import Batch
from trimbre.errors import UserError
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.hookable import hookable
from trimbre.models.inputs import features_of
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
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # transformers' own WavLM
KIN = ("Wav2Vec2", "Hubert", "Data2VecAudio", "UniSpeech", "UniSpeechSat", "WavLM")


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


REMOTE = """
import sys
sys.modules["trimbre"] = None  # importing it fails, as where it isn't installed
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCTC
torch.set_num_threads(1)
audio, logits = torch.linspace(-1, 1, 8_000).repeat(2, 1).sin(), {}
for name in sys.argv[2:]:
    model = AutoModelForCTC.from_pretrained(f"{sys.argv[1]}/{name}", trust_remote_code=True).eval()
    with torch.no_grad():
        logits[name] = model(audio).logits
save_file(logits, f"{sys.argv[1]}/logits")
"""


@pytest.mark.slow
def test_cut_models_are_loaded_in_three_ways(tmp_path):
    cuts = {}
    for name in KIN:
        model = tiny(name, **FRONT)
        cuts[name] = cut(model, random_cut(anatomy_of(model), random.Random(4))[0]).eval()
        save(cuts[name], PROCESSOR, tmp_path / name)
    alone = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", REMOTE, str(tmp_path), *KIN]
    done = subprocess.run(command, env=alone, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    remote = load_file(tmp_path / "logits")
    audio = torch.linspace(-1, 1, 8_000).repeat(2, 1).sin()
    for name, small in cuts.items():
        loaded = load(tmp_path / name).model, AutoModelForCTC.from_pretrained(tmp_path / name).eval()
        with torch.no_grad():
            expected = small(audio).logits
            assert torch.equal(remote[name], expected), name
            assert all(torch.equal(one(audio).logits, expected) for one in loaded), name


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


def inputs_of(seconds, processor):
    noise = np.random.default_rng(0)
    return features_of([noise.standard_normal(int(16_000 * one)).astype(np.float32) for one in seconds], processor)


def test_a_wavlm_computes_the_same_by_separate_heads():
    model = tiny("WavLM", do_stable_layer_norm=True).double()
    inputs = inputs_of((0.6, 1.0), PROCESSOR)
    inputs["input_values"] = inputs["input_values"].double()
    with torch.no_grad():
        fused = model(**inputs).logits
        with hookable(model):
            separate = model(**inputs).logits
        again = model(**inputs).logits
    assert torch.allclose(fused, separate, rtol=0, atol=1e-12)
    assert torch.equal(fused, again)


def test_the_first_layer_of_a_wavlm_keeps_a_head():
    """The other layers have their position bias from it."""
    anatomy = anatomy_of(tiny("WavLM"))
    heads = [group for group in anatomy.groups if group.kind.name == "attention"]
    assert [(group.skippable, group.least) for group in heads] == [(False, 1), (True, 0), (True, 0)]


BERT = {"feature_projection_input_dim": 160, "conv_depthwise_kernel_size": 7, "max_source_positions": 200}


@pytest.fixture(scope="module")
def bert_processor():
    return Wav2Vec2BertProcessor(SeamlessM4TFeatureExtractor(), PROCESSOR.tokenizer)


@pytest.mark.parametrize("positions", ["relative_key", "relative", "rotary"])
def test_a_bert_is_cut_exactly_and_its_convolutions_whole(positions, bert_processor, tmp_path):
    model = tiny("Wav2Vec2Bert", **BERT, position_embeddings_type=positions)
    anatomy = anatomy_of(model)
    assert {group.size for group in anatomy.groups if group.kind.name == "conv"} == {1}
    assert verify_cutting(model, bert_processor, plans=4) < 1e-5
    small = cut(model, random_cut(anatomy, random.Random(5))[0]).eval()
    assert verify_cutting(small, bert_processor, plans=2) < 1e-5
    loaded, _ = load(save(small, bert_processor, tmp_path / "small"))
    inputs = inputs_of((0.6, 1.0), bert_processor)
    with torch.no_grad():
        together = small(**inputs).logits
        assert torch.equal(loaded(**inputs).logits, together)
        alone = small(**inputs_of((0.6,), bert_processor)).logits[0]
    assert torch.allclose(together[0, : len(alone)], alone, atol=1e-5)  # padding changes nothing


@pytest.mark.parametrize("name", ["WavLM", "Wav2Vec2Bert"])
def test_costs_are_those_that_torch_counts(name, bert_processor):
    """Also of a position bias that every head gates, and of embeddings of distances."""
    bert = name == "Wav2Vec2Bert"
    model, processor = tiny(name, **(BERT if bert else FRONT)), bert_processor if bert else PROCESSOR
    anatomy = anatomy_of(model)
    macs = macs_budget(model, anatomy, reference_of(model, processor), scope="model")
    params = params_budget(model, anatomy, scope="model")
    for plan in edge_plans(anatomy).values():
        # As a search leaves them: without units, the parameters that all heads share go too, which only skipping says.
        empty = {group.path for group in anatomy.groups if group.skippable and not plan.kept[group.path]}
        plan = Plan(plan.sizes, plan.kept, plan.skipped | empty)
        small = cut(model, plan)
        with hookable(small):
            counted = size(small, processor)
        assert macs.cost.of(plan) == pytest.approx(counted.macs_per_second, rel=1e-9)
        assert params.cost.of(plan) == counted.parameters


@pytest.mark.parametrize("name", ["WavLM", "Wav2Vec2Bert"])
def test_it_is_pruned_and_refitted(name, bert_processor, noise_corpus):
    bert = name == "Wav2Vec2Bert"
    recovery = trimbre.RecoveryConfig(steps=0, refit_batches=1)
    config = trimbre.PruneConfig(remove=0.4, calibration_batches=1, recovery=recovery)
    result = trimbre.prune(
        tiny(name, **(BERT if bert else FRONT)),
        bert_processor if bert else PROCESSOR,
        train=noise_corpus,
        config=config,
        of="encoder",
    )
    assert result.report["removed"]["macs"]["encoder"] == pytest.approx(0.4, abs=0.06)  # tiny modules are coarse
