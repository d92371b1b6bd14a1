"""Cutting a model by a Plan into a physically smaller model."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimbre.models import modeling_trimbre
from trimbre.models.anatomy import Anatomy, Group
from trimbre.models.families.registry import anatomy_of, cut_class
from trimbre.models.rows import remove_rows
from trimbre.plan import KeptTokens, Plan
from trimbre.pruning.numerics import assign, float64


@dataclass(frozen=True)
class GateValues:
    """Values of the gates of a model, 0 to 1, which a cut folds into the weights."""

    units: Mapping[str, Tensor]
    """Path of a group -> (units,) before the cut."""
    branches: Mapping[str, Tensor]
    """Path of a group -> scalar."""

    @classmethod
    def open(cls, anatomy: Anatomy) -> "GateValues":
        """All gates at 1, which changes nothing."""
        units = {group.path: torch.ones(group.size) for group in anatomy.groups}
        return cls(units, {path: torch.tensor(1.0) for path in units})

    def restricted_to(self, plan: Plan) -> "GateValues":
        """These values on what the plan keeps, and zero elsewhere.

        A gate at zero that the plan keeps is opened a little: the search for the exact cost may bring back units whose
        gate was closed, and folding that zero would keep dead weights.
        """
        units = {}
        for path, values in self.units.items():
            mask = torch.zeros_like(values)
            mask[list(plan.kept[path])] = 1.0
            units[path] = torch.where(values > 0, values, torch.full_like(values, 0.05)) * mask
        branches = {
            path: torch.zeros_like(value) if path in plan.skipped else value.clamp_min(0.05)
            for path, value in self.branches.items()
        }
        return GateValues(units, branches)


def cut(model: PreTrainedModel, plan: Plan, *, gate_values: GateValues | None = None) -> PreTrainedModel:
    """Return a smaller copy of `model` that holds only what `plan` keeps; `model` stays as it was.

    Args:
        gate_values: gates to fold into the weights: the copy equals the gated model whose gates have these values on
            what is kept and zero elsewhere. None folds nothing.

    Raises:
        UserError: the plan was made for a model of another shape, or removes what has to stay.
    """
    anatomy = anatomy_of(model)
    anatomy.check(plan)
    small = _copy_sharing_weights(model)
    with torch.no_grad():
        for group in anatomy.groups:
            if group.path in plan.skipped:
                modeling_trimbre.skip(small, group.path, **_skipped(group))
                continue
            if gate_values is not None:
                _fold(small.get_submodule(group.consumer), gate_values, group.path, group.kind)
            if len(plan.kept[group.path]) < group.size:
                modeling_trimbre.narrow(small, group.path, group.kind.to_json(), plan.kept[group.path], group.size)
        if plan.vocabulary is not None:
            remove_rows(small, plan.vocabulary)
        _own_weights(small)
    anatomy.follow(small, plan)
    small.config.trimbre = layout(anatomy, plan, getattr(model.config, "trimbre", None))
    small.__class__ = cut_class(model)
    return small


def without_rows(model: PreTrainedModel, kept: KeptTokens) -> PreTrainedModel:
    """A copy of `model` that has the rows of the kept tokens alone, and shares the memory of all other weights.

    It is of the same class: its vocabulary is merely smaller.
    """
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in model.parameters()}
    shared |= {id(buffer): buffer.detach() for buffer in model.buffers()}
    small = copy.deepcopy(model, shared)
    remove_rows(small, kept)
    return small


@torch.no_grad()
def shift_biases(model: PreTrainedModel, shifts: Mapping[str, Tensor]) -> None:
    """Add to the biases of the projections that read the units of groups, in place.

    Args:
        shifts: path of a group -> (dim,).
    """
    for group in anatomy_of(model).groups:
        if group.path in shifts:
            bias = model.get_submodule(group.consumer).get_parameter("bias")
            assign(bias, float64(bias) + shifts[group.path].to(float64(bias)))


def layout(anatomy: Anatomy, plan: Plan, earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """The `config.trimbre` of a model cut by `plan`: the width of every group that differs from the dense model's.

    Args:
        earlier: the `config.trimbre` before the cut, where the model had been cut before.
    """
    now: dict[str, Any] = copy.deepcopy(dict(earlier)) if earlier else {"kinds": {}, "widths": {}, "skipped": {}}
    now["format"] = modeling_trimbre.FORMAT
    for group in anatomy.groups:
        name, path = group.kind.name, group.path
        now["kinds"].setdefault(name, group.kind.to_json())
        widths = now["widths"].setdefault(name, {})
        if path in plan.skipped:
            widths.pop(path, None)
            now["skipped"][path] = _skipped(group)
        elif len(plan.kept[path]) < group.size:
            dense = widths[path][1] if path in widths else group.size
            widths[path] = [len(plan.kept[path]), dense]
    return now


def _skipped(group: Group) -> dict[str, Any]:
    """Arguments of `modeling_trimbre.skip` for a branch, as JSON."""
    return {"norm": group.norm, "outputs": group.kind.outputs, "parts": list(group.kind.parts)}


def _fold(consumer: Any, values: GateValues, path: str, kind: Any) -> None:
    """Multiply the consumer's columns by the units' gates, and its weight and bias by the branch's."""
    weight = consumer.weight
    units = values.units[path].to(weight).repeat_interleave(kind.rows)
    branch = values.branches[path].to(weight)
    consumer.weight = nn.Parameter(weight * units.reshape(1, -1, *[1] * (weight.dim() - 2)) * branch)
    if consumer.bias is not None:
        consumer.bias = nn.Parameter(consumer.bias * branch)


def _copy_sharing_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy that shares the model's tensors, so that no memory is spent on what will leave."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def _own_weights(model: nn.Module) -> None:
    """Give a copy that shares tensors storage of its own."""
    own: dict[int, nn.Parameter] = {}  # tied parameters stay tied
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in own:
                own[id(parameter)] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
            setattr(module, name, own[id(parameter)])
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.detach().clone())
