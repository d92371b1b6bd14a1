"""Exported graphs: they equal the model at every length, batch and padding, pruned or not, and hold no more."""

import copy
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.families import edge_plans, random_plan, shaken
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.errors import UserError
from trimbre.exporting import ctc
from trimbre.exporting.onnx import check_graph, distances, write_graph
from trimbre.exporting.rewrites import FORMS
from trimbre.exporting.session import session
from trimbre.exporting.targets import OnnxGraph, Trial, layout_for
from trimbre.exporting.traceable import exportable
from trimbre.models.families.registry import anatomy_of, family_of
from trimbre.models.inputs import features_of
from trimbre.models.modeling_trimbre import BiasOnly
from trimbre.models.positions import valid_frames
from trimbre.pruning.surgery import cut

pytestmark = [pytest.mark.ctc, pytest.mark.slow]

PLANS = {
    "random": lambda anatomy: random_plan(anatomy, 5),
    "no units": lambda anatomy: edge_plans(anatomy)["no units"],
    "no modules": lambda anatomy: edge_plans(anatomy)["no modules"],
}


class Made(NamedTuple):
    """A pruned model, and the graph that was made of it."""

    model: PreTrainedModel
    processor: ProcessorMixin
    graph: OnnxGraph
    path: Path
    distance: float

    @property
    def nodes(self):
        return onnx.load(self.path).graph.node


@pytest.fixture(scope="module")
def made(family, tmp_path_factory):
    """One family's model by the name of a plan, exported when it is asked for first."""
    folder, processor = tmp_path_factory.mktemp("graphs"), family.processor()

    @cache
    def made(name):
        torch.manual_seed(0)
        dense = shaken(family.build())
        model = cut(dense, PLANS[name](anatomy_of(dense)))
        (graph,), path = layout_for("onnx", model, processor).graphs, folder / f"{name}.onnx"
        return Made(model, processor, graph, path, write_graph(model, graph, path))

    return made


@pytest.mark.parametrize(
    "plan", ["random", *(pytest.param(f"no {what}", marks=pytest.mark.once) for what in ("units", "modules"))]
)
def test_a_pruned_model_and_its_graph_are_equal(made, plan):
    assert made(plan).distance <= 1e-5


def test_onnx_runtime_as_users_start_it_leaves_sums_beside_norms_apart(made, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(made("random").path, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert kinds["LayerNormalization"] > 0
    assert kinds["Sum"] > 0
    assert kinds["SkipLayerNormalization"] == 0


@pytest.mark.once
def test_a_graph_of_another_model_is_noticed(made):
    one = made("no modules")
    other = copy.deepcopy(one.model)
    with torch.no_grad():
        list(other.parameters())[-1].add_(0.01)
    with pytest.raises(UserError, match="differs from the model"):
        check_graph(layout_for("onnx", other, one.processor).graphs[0], one.path)


@pytest.mark.once
def test_every_shape_is_compared(made):
    one = made("no units")
    each = list(distances(one.graph, one.path))
    assert len(each) == len(ctc.CHECKED_SECONDS)
    assert max(each) == one.distance
    assert {len(seconds) for seconds in ctc.CHECKED_SECONDS} >= {1, 2, 3}  # alone, and padded in batches


def test_what_is_no_number_is_farther_than_any(tmp_path):
    """Of a graph that gives back what it is given, in the second of three trials."""
    sized = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "same", sized[:1], sized[1:])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "same.onnx")
    one = torch.ones(2)

    def compared(*given):
        trials = [Trial({"x": found}, {"y": one}, None) for found in given]
        same = OnnxGraph("same", {"x": {}}, ("y",), nn.Identity, {"x": one}, lambda: iter(trials))
        return check_graph(same, tmp_path / "same.onnx")

    assert compared(one, one) == 0
    for odd in (torch.tensor([1.0, torch.nan]), torch.ones(3)):
        with pytest.raises(UserError, match="differs from the model by inf"):
            compared(one, odd, one)


@pytest.mark.once
def test_a_graph_holds_no_path_of_this_machine(made):
    one = made("no units")
    weights = sum(parameter.nbytes for parameter in one.model.parameters())
    assert one.path.stat().st_size <= weights + 60_000  # nodes of some hundred bytes each
    assert b".py" not in one.path.read_bytes()


def kinds_of(nodes):
    """What nodes compute: a `Sum` of two is an addition by another name."""
    return ["Add" if node.op_type == "Sum" else node.op_type for node in nodes]


@pytest.mark.once
def test_skipped_modules_leave_no_nodes(made):
    """Block by block, what is skipped is gone: of a block without modules its last norm alone remains."""
    bare, kept = made("no modules"), made("no units")
    # a branch that lost its units but not its bias is one addition more than a branch that was skipped
    biases = sum(isinstance(module, BiasOnly) for module in kept.model.modules())
    more = Counter(kinds_of(kept.nodes)) - Counter(kinds_of(bare.nodes))
    assert more == {"Add": biases}
    assert biases >= 9
    assert not any(node.op_type in ("Softmax", "Sigmoid") for node in bare.nodes)
    last = ("norm_out.weight", "final_layer_norm.weight")
    norms = [node for node in bare.nodes if any(name.endswith(last) for name in node.input)]
    assert len(norms) == 3
    assert kinds_between(bare.nodes, norms[0], norms[-1]) == ["LayerNormalization"] * 3


def kinds_between(nodes, first, last):
    """The kinds of the nodes on the way from one to another, each fed by the one before."""
    made_by = {name: node for node in nodes for name in node.output}
    kinds, node = [last.op_type], last
    while node.output != first.output:
        node = made_by[node.input[0]]
        kinds.append(node.op_type)
    return kinds


def test_a_copy_is_prepared_and_the_model_left_alone(model, processor, padded):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attention = model.config._attn_implementation
    modules = [type(module) for module in model.modules()]
    prepared = exportable(model)
    with torch.no_grad():
        found, expected = prepared(**padded).logits, model(**padded).logits
    quickened = bool(FORMS.keys() & family_of(model).forms.values())  # and so free to differ on padding
    valid = valid_frames(model, padded, expected) if quickened else torch.ones(expected.shape[:2], dtype=torch.bool)
    torch.testing.assert_close(found[valid], expected[valid], atol=1e-4, rtol=1e-4)
    assert modules == [type(module) for module in model.modules()]
    assert model.config._attn_implementation == attention
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_padding_of_any_kind_changes_nothing(tmp_path):
    """sherpa-onnx pads batches with -23: what lies beyond an utterance's length must not matter."""
    model, processor = mini_parakeet(), mini_processor()
    layout, path = layout_for("sherpa-onnx", model, processor), tmp_path / "model.onnx"
    assert write_graph(model, layout.graphs[0], path) <= 1e-5
    feed = {name: value.numpy() for name, value in layout.feed(features_of(clips(1.0), processor)).items()}
    running = session(path)
    (alone,) = running.run(None, feed)
    frames = -(-feed["length"][0] // model.config.encoder_config.subsampling_factor)
    more = np.full((1, 16, 57), -23.0, dtype=np.float32)
    padded = np.concatenate([feed["audio_signal"][:, :, : feed["length"][0]], more], axis=2)
    (beside,) = running.run(None, feed | {"audio_signal": padded})
    assert beside.shape[1] > alone.shape[1]
    np.testing.assert_allclose(alone[:, :frames], beside[:, :frames], atol=1e-5)
