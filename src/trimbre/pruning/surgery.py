"""Cutting: a model and a Plan become a smaller model."""

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
from trimbre.plan import Plan


@dataclass(frozen=True)
class GateValues:
    """Gate values to fold into the weights when a model is cut: soft gates that are neither 0 nor 1."""

    units: Mapping[str, Tensor]
    """(units before the cut,) of every group."""
    branches: Mapping[str, Tensor]
    """A scalar for every group."""

    @classmethod
    def open(cls, anatomy: Anatomy) -> "GateValues":
        """Gates that change nothing."""
        units = {group.path: torch.ones(group.size) for group in anatomy.groups}
        return cls(units, {path: torch.tensor(1.0) for path in units})

    def hardened(self, plan: Plan) -> "GateValues":
        """The gates' values on what the plan keeps, zero elsewhere; a gate that stood at zero but is kept is opened.

        The search for the exact cost may bring back units whose gate was shut; folding that zero would keep
        dead weight.
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


def cut(model: PreTrainedModel, plan: Plan, *, scales: GateValues | None = None) -> PreTrainedModel:
    """Return a smaller copy of `model` that holds only what `plan` keeps; `model` stays as it was.

    With `scales`, the copy equals the gated model whose gates had these values on what is kept and zero elsewhere.

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
            if scales is not None:
                _fold(small.get_submodule(group.consumer), scales, group.path, group.kind)
            if len(plan.kept[group.path]) < group.size:
                modeling_trimbre.narrow(small, group.path, group.kind.to_json(), plan.kept[group.path], group.size)
        _own_weights(small)
    anatomy.follow(small, plan)
    small.config.trimbre = layout(anatomy, plan, getattr(model.config, "trimbre", None))
    small.__class__ = cut_class(model)
    return small


def layout(anatomy: Anatomy, plan: Plan, earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """What `config.trimbre` says of a model cut by `plan`; `earlier` is what it said before the cut."""
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
    """What skipping a branch takes, as `modeling_trimbre.skip` reads it."""
    return {"norm": group.norm, "outputs": group.kind.outputs, "parts": list(group.kind.parts)}


def _fold(consumer: Any, scales: GateValues, path: str, kind: Any) -> None:
    """Multiply the consumer's columns by the units' gates, and all of it by the branch's."""
    weight = consumer.weight
    units = scales.units[path].to(weight).repeat_interleave(kind.rows)
    branch = scales.branches[path].to(weight)
    consumer.weight = nn.Parameter(weight * units.reshape(1, -1, *[1] * (weight.dim() - 2)) * branch)
    if consumer.bias is not None:
        consumer.bias = nn.Parameter(consumer.bias * branch)


def _copy_sharing_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy whose structure is its own and whose tensors are still the model's: what leaves is never copied."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def _own_weights(model: nn.Module) -> None:
    """Give the copy storage of its own for the tensors that it still shares."""
    own: dict[int, nn.Parameter] = {}  # tied parameters stay tied
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in own:
                own[id(parameter)] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
            setattr(module, name, own[id(parameter)])
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.detach().clone())
