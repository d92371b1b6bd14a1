"""A family that a user registers goes every way that ours go; its front end keeps a channel whatever is asked for."""

import json
import os
import random
import subprocess
import sys

import pytest
import torch
from helpers.checkpoints import CLIP, logits_of
from helpers.families import FAMILIES, shaken
from helpers.hubert import FAMILY, FRONT, tiny_hubert
from helpers.places import TESTS
from safetensors.torch import load_file, save_file
from transformers import HubertForCTC, ViTConfig, ViTModel, Wav2Vec2Config, Wav2Vec2ForCTC

import trimbre
from trimbre.costs.macs import macs_budget, positions_of, reference_of
from trimbre.costs.params import params_budget
from trimbre.errors import UserError
from trimbre.exporting.ctc import length_layers
from trimbre.exporting.targets import layout_for
from trimbre.models.checkpoint import save
from trimbre.models.families import registry
from trimbre.models.families.registry import Family, anatomy_of, family_of, head_of
from trimbre.models.heads.ctc import CTC
from trimbre.models.heads.seq2seq import Seq2Seq
from trimbre.models.inputs import features_of
from trimbre.models.positions import valid_frames
from trimbre.plan import Plan
from trimbre.pruning.allocation import PruningTarget, plan_for_target
from trimbre.pruning.constraint import Multipliers
from trimbre.pruning.equivalence import check_equality, random_cut, verify_cutting
from trimbre.pruning.gates import Gates
from trimbre.pruning.surgery import GateValues, cut

PROCESSOR = FAMILIES["wav2vec2-conformer, rotary"].processor()


@pytest.fixture
def hubert():
    before = dict(registry._families())
    trimbre.register_family(FAMILY)
    yield shaken(tiny_hubert())
    registry._families().clear()
    registry._families().update(before)


@pytest.fixture
def anatomy(hubert):
    return anatomy_of(hubert)


def front_of(anatomy):
    return [group for group in anatomy.groups if group.path.startswith(FRONT)]


def test_masked_equals_sliced(hubert):
    assert verify_cutting(hubert, PROCESSOR, plans=8) < 1e-5


def test_masked_equals_sliced_with_one_channel_left_of_every_pair(hubert, anatomy):
    kept = {group.path: (1,) if group.least else () for group in anatomy.groups}
    plan = Plan(anatomy.sizes, kept)
    values = GateValues.open(anatomy).restricted_to(plan)
    small = cut(hubert, plan, gate_values=values)
    assert check_equality(hubert, small, values, features_of([CLIP[:9_000], CLIP], PROCESSOR)) < 1e-5
    layers = small.hubert.feature_extractor.conv_layers
    assert [layer.conv.out_channels for layer in layers] == [1, 1, 8]
    assert layers[0].layer_norm.num_groups == 1


def test_a_channel_of_the_front_end_stays(hubert, anatomy):
    everything = Plan.everything(anatomy.sizes)
    for group in front_of(anatomy):
        assert (group.least, group.skippable, group.residual) == (1, False, False)
        with pytest.raises(UserError, match=f"keeps 0 front-end channels of {group.path}, which needs 1"):
            cut(hubert, Plan(anatomy.sizes, dict(everything.kept) | {group.path: ()}))
        with pytest.raises(UserError, match=f"skips {group.path}"):
            cut(hubert, Plan(anatomy.sizes, everything.kept, frozenset([group.path])))
    draw = random.Random(0)
    for _ in range(50):
        plan, _ = random_cut(anatomy, draw)
        anatomy.check(plan)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_allocation_leaves_a_channel_of_the_front_end_and_meets_the_budget(hubert, anatomy, share):
    budget = params_budget(hubert, anatomy, scope="encoder")
    most = 1 - budget.cost.fixed / budget.dense
    target = PruningTarget(anatomy, [budget], share * most, torch.zeros(len(anatomy.groups)).bool())
    scores = torch.randn(len(anatomy.owner), generator=torch.Generator().manual_seed(0))
    scores[anatomy.owner < len(front_of(anatomy))] -= 100  # the channels would be the first to leave
    plan = plan_for_target(target, scores, skipped=frozenset(group.path for group in front_of(anatomy)))
    assert [plan.widths[group.path] for group in front_of(anatomy)] == [1, 1]
    assert not plan.skipped & {group.path for group in front_of(anatomy)}
    assert budget.removed(plan) == pytest.approx(target.share, abs=0.02)


def test_gates_of_what_cannot_be_skipped_are_open(anatomy):
    gates = Gates(anatomy)
    with torch.no_grad():
        gates.branches.fill_(-10)
    for values in (gates.expected()[1], torch.stack(list(gates.noiseless().branches.values()))):
        assert values[:2].tolist() == [1, 1]
        assert values[2:].max() < 0.5


def test_gates_meet_the_target_where_some_groups_cannot_be_skipped(hubert, anatomy):
    gates = Gates(anatomy)
    with torch.no_grad():
        gates.branches.fill_(1.0)  # not quite open, which counts only for those that can be skipped
    multipliers = Multipliers(gates, [params_budget(hubert, anatomy, scope="encoder")])
    assert multipliers.meet(0.3) == pytest.approx([0.3], abs=1e-4)
    assert multipliers.removed() == pytest.approx([0.3], abs=1e-4)


@pytest.mark.parametrize("method", ["curvature", "activation"])
def test_methods_score_what_they_can_and_refuse_a_convolution_over_several_positions(hubert, noise_corpus, method):
    quick = trimbre.PruneConfig(
        remove=0.3, method=method, calibration_batches=1, recovery=trimbre.RecoveryConfig(steps=0, refit_batches=1)
    )
    result = trimbre.prune(hubert, PROCESSOR, train=noise_corpus, config=quick)
    assert result.report["removed"]["params"]["blocks"] == pytest.approx(0.3, abs=0.05)  # tiny modules are coarse
    with pytest.raises(ValueError, match=r"channels-\d|conv_layers.*magnitude or taylor"):
        trimbre.prune(hubert, PROCESSOR, train=noise_corpus, config=quick, of="encoder")


def test_costs_are_exact_where_two_groups_share_a_convolution(hubert, anatomy):
    reference = reference_of(hubert, PROCESSOR)
    draw = random.Random(1)
    for scope in ("front-end", "model"):
        params = params_budget(hubert, anatomy, scope=scope)
        macs = macs_budget(hubert, anatomy, reference, scope=scope)
        assert params.cost.of(Plan.everything(anatomy.sizes)) == pytest.approx(params.dense)
        assert macs.cost.of(Plan.everything(anatomy.sizes)) == pytest.approx(macs.dense)
        for _ in range(4):
            plan, _ = random_cut(anatomy, draw)
            small = cut(hubert, plan)
            named = {name: p.numel() for name, p in small.named_parameters() if name.startswith(anatomy.scopes[scope])}
            assert params.cost.of(plan) == pytest.approx(sum(named.values()))
            if scope == "front-end":
                counted = positions_of(small, reference.inputs)
                exact = sum(named[f"{path}.weight"] * n for path, n in counted.items() if path.startswith(FRONT))
                assert macs.cost.of(plan) == pytest.approx(exact / reference.seconds)


def test_positions_between_input_and_output_are_valid_as_the_input_is(hubert):
    inputs = features_of([CLIP[:12_000], CLIP], PROCESSOR)
    states = torch.zeros(2, 300, 8)
    valid = valid_frames(hubert, inputs, states, positions="inputs")
    assert valid.sum(1).tolist() == [150, 300]


AGAIN = """
import json, sys
job = json.load(open(sys.argv[1]))
import torch
torch.set_num_threads(1)
from safetensors.torch import load_file, save_file
inputs = load_file(job["inputs"])
found = {}
if job["how"] == "remote":
    sys.modules["trimbre"] = None
    from transformers import AutoModelForCTC
    found["model"] = AutoModelForCTC.from_pretrained(job["model"], trust_remote_code=True).eval()
    found["model"].save_pretrained(job["model"] + "-again")
    found["again"] = AutoModelForCTC.from_pretrained(job["model"] + "-again", trust_remote_code=True).eval()
elif job["how"] == "registered":
    sys.path.insert(0, job["tests"])
    import trimbre, trimbre.auto
    from helpers.hubert import FAMILY
    from transformers import AutoModelForCTC
    trimbre.register_family(FAMILY)
    found["auto"] = AutoModelForCTC.from_pretrained(job["model"]).eval()
    found["load"] = trimbre.load(job["model"]).model
else:
    import trimbre
    found["load"] = trimbre.load(job["model"]).model
import copy
with torch.no_grad():
    logits = {name: copy.deepcopy(model)(**inputs).logits.contiguous() for name, model in found.items()}
save_file(logits, job["logits"])
"""


@pytest.mark.parametrize("how", ["remote", "registered", "unregistered"])
@pytest.mark.slow
def test_a_cut_model_is_loaded_by_another_process(hubert, anatomy, tmp_path, how):
    plan, _ = random_cut(anatomy, random.Random(3))
    small = cut(hubert, plan).eval()
    save(small, PROCESSOR, tmp_path / "model", plan=plan)
    inputs = features_of([CLIP[:9_000], CLIP], PROCESSOR)
    save_file(inputs, tmp_path / "inputs")
    job = {name: str(tmp_path / name) for name in ("model", "inputs", "logits")}
    (tmp_path / "job").write_text(json.dumps(job | {"how": how, "tests": str(TESTS)}))
    alone = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "job")]
    done = subprocess.run(command, env=alone, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, logits in load_file(tmp_path / "logits").items():
        assert torch.equal(logits, logits_of(small, inputs)), name


def test_a_dense_model_of_a_registered_family_stays_an_ordinary_one(hubert, tmp_path):
    save(hubert, PROCESSOR, tmp_path / "dense")
    loaded, _ = trimbre.load(tmp_path / "dense")
    assert type(loaded) is HubertForCTC
    assert not list((tmp_path / "dense").glob("*.py"))


def test_families_are_found_by_model_and_by_config(family):
    model = family.build()
    assert family_of(model) is family_of(model.config)
    assert head_of(model).auto_class == family.auto.__name__
    assert type(model).__name__ in family_of(model).classes


def test_a_model_that_no_family_covers_can_be_run_and_not_pruned():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Wav2Vec2Config(vocab_size=9, conv_dim=(8,) * 7, **sizes)
    model = Wav2Vec2ForCTC(config)
    assert head_of(model) == head_of(config) == CTC()
    with pytest.raises(UserError, match=r"Wav2Vec2ForCTC .*knows .*ParakeetForCTC.*trimbre.register_family"):
        anatomy_of(model)
    with pytest.raises(UserError, match="ViTModel is not a model that Trimbre can prune"):
        family_of(ViTModel(ViTConfig(**sizes)))


def test_of_classes_with_one_config_the_family_registered_last_is_its(hubert):
    other = Family("hubert-classifier", ("HubertForSequenceClassification",), CTC(), None)
    assert family_of(hubert.config) is FAMILY
    trimbre.register_family(other)
    assert family_of(hubert.config) is other
    assert family_of(hubert) is FAMILY


def test_a_name_is_of_one_family_and_the_same_classes_are_registered_again(hubert):
    with pytest.raises(ValueError, match="name='hubert': another family"):
        trimbre.register_family(Family("hubert", ("WavLMForCTC",), CTC(), None))
    trimbre.register_family(FAMILY)
    assert {family.name for family in registry.families()} >= {"hubert", "whisper", "parakeet"}


def test_a_registered_family_is_exported(hubert, tmp_path):
    trimbre.export(hubert, PROCESSOR, to="onnx", out=tmp_path / "out")  # which compares the graph with the model
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_what_cannot_be_exported_is_refused(hubert):
    trimbre.register_family(Family("talking hubert", ("HubertForCTC",), Seq2Seq(), None))
    with pytest.raises(ValueError, match="to='onnx': no exporter"):
        layout_for("onnx", hubert, PROCESSOR)
    hubert._get_feat_extract_output_lengths = lambda lengths: lengths // 7  # not what its config states
    with pytest.raises(ValueError, match="HubertForCTC cannot be exported"):
        length_layers(hubert)


@pytest.mark.parametrize(
    ("given", "culprit"),
    [({"classes": ("NoSuchForCTC",)}, "NoSuchForCTC"), ({"runtimes": ("onnx", "abacus")}, "runtimes='abacus'")],
)
def test_a_family_that_cannot_be_is_refused(given, culprit):
    with pytest.raises(ValueError, match=culprit):
        trimbre.register_family(Family(**{"name": "x", "classes": (), "head": Seq2Seq(), "anatomy": None} | given))
