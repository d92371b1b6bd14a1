"""A check, on the model at hand, that the cut model computes the same function as the gated one."""

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.models.anatomy import Anatomy
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.inputs import features_of, rate_of
from trimbre.models.positions import valid_frames
from trimbre.plan import Plan
from trimbre.progress import tracked
from trimbre.pruning.frozen import eval_mode
from trimbre.pruning.gates import Gates, gated
from trimbre.pruning.surgery import GateValues, cut

EQUAL = 1e-5
"""Largest distance of the cut model's output from the gated model's, relative to its norm, in float32."""
TOKENS = 8
"""Tokens of decoder input in `verify_cutting`."""


def equality(
    model: PreTrainedModel, small: PreTrainedModel, gate_values: GateValues, inputs: Mapping[str, Tensor]
) -> float:
    """Relative distance of a cut model's outputs from those of the gated model that it was cut from, on valid frames.

    Both are run in eval mode.
    """
    gates, head = Gates(anatomy_of(model)).to(model.device), head_of(model)
    gates.set_values(gate_values)
    with torch.no_grad(), eval_mode(model, small):
        with gated(model, gates):
            masked = head.outputs(head.forward(model, inputs))
        sliced = head.outputs(head.forward(small, inputs))
    valid = valid_frames(model, inputs, masked)
    masked, sliced = masked[valid], sliced[valid]
    return float((masked - sliced).norm() / masked.norm())


def check_equality(
    model: PreTrainedModel, small: PreTrainedModel, gate_values: GateValues, inputs: Mapping[str, Tensor]
) -> float:
    """The distance of `equality`, which has to be within float32's rounding.

    Raises:
        RuntimeError: it is above `EQUAL`: the cut is wrong.
    """
    distance = equality(model, small, gate_values, inputs)
    if not distance <= EQUAL:
        raise RuntimeError(
            f"the cut model differs from the gated one by {distance:.1e} of its output: please report this"
        )
    return distance


def verify_cutting(model: PreTrainedModel, processor: ProcessorMixin, *, plans: int = 4, seed: int = 0) -> float:
    """Cut `model` by random plans with soft gates; return the largest distance from the gated model, on noise.

    Raises:
        RuntimeError: one of the cut models differs from the gated one.
    """
    noise = np.random.default_rng(seed)
    clips = [
        noise.standard_normal(int(seconds * rate_of(processor))).astype(np.float32) * 0.1 for seconds in (1.5, 4.0)
    ]
    features = {name: value.to(model.device) for name, value in features_of(clips, processor).items()}
    inputs = head_of(model).example_inputs(model, features, TOKENS)
    anatomy = anatomy_of(model)
    draw = random.Random(seed)
    worst = 0.0
    for _ in tracked(range(plans), "verification"):
        plan, values = random_cut(anatomy, draw)
        worst = max(worst, check_equality(model, cut(model, plan, gate_values=values), values, inputs))
    return worst


def random_cut(anatomy: Anatomy, draw: random.Random) -> tuple[Plan, GateValues]:
    """A plan of random widths, from the least to all, with some groups skipped, and soft gate values for it."""
    kept, units, branches = {}, {}, {}
    skipped = frozenset(group.path for group in anatomy.groups if draw.random() < 0.2 and group.skippable)
    for group in anatomy.groups:
        width = draw.randint(min(group.least, group.size), group.size)
        kept[group.path] = tuple(sorted(draw.sample(range(group.size), width)))
        units[group.path] = torch.zeros(group.size)
        for unit in kept[group.path]:
            units[group.path][unit] = draw.uniform(0.3, 1.0)
        branch = 0.0 if group.path in skipped else draw.uniform(0.3, 1.0)
        branches[group.path] = torch.tensor(branch if group.skippable else 1.0)
    return Plan(anatomy.sizes, kept, skipped), GateValues(units, branches)
