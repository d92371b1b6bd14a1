"""Low rank by activations: a rival that factors projections where pruning removes their units.

The outputs of a projection, y = W x + b, lie near a subspace: that of their principal components on calibration audio.
With their mean m and the first k components V (outputs, k),

    y ~ m + V V^T (y - m) = V (V^T W) x + (m + V V^T (b - m)),

two projections of k (inputs + outputs) weights in place of inputs times outputs. By Eckart and Young no other map onto
k dimensions leaves a smaller squared error on that audio. The rank of a projection is the smallest whose components
explain a share of the variance that is the same for all; one that would not be smaller than the whole stays whole
(LiteASR, Kamahori et al. 2025). The share is found by the cost that the model is to have. Heads, and with them the
products between activations in attention, stay as they are: LiteASR's factored attention is not implemented.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.config import BUDGETS, PruneConfig
from trimbre.costs.macs import reference_of
from trimbre.data.batches import Batch
from trimbre.errors import OptionError
from trimbre.models.anatomy import Anatomy, Group
from trimbre.models.families.registry import anatomy_of
from trimbre.models.positions import valid_frames
from trimbre.pruning.frozen import eval_mode
from trimbre.pruning.targets import ModelCosts

ATTENTION = 10.0
"""How much more of the variance attention leaves than other modules: LiteASR keeps 99 % there and 99.9 % in MLPs."""


@dataclass(frozen=True)
class Components:
    """Principal components of the outputs of a projection on calibration audio, in float64."""

    mean: Tensor
    """(outputs,)"""
    vectors: Tensor
    """(outputs, outputs), a component a column, by falling variance."""
    variances: Tensor
    """(outputs,)"""

    @property
    def left(self) -> Tensor:
        """(outputs,) share of the variance that the first component leaves, the first two, and so on; the last 0."""
        rest = self.variances.flip(0).cumsum(0).flip(0)
        return torch.cat([rest[1:], rest.new_zeros(1)]) / rest[0].clamp_min(1e-300)


class Moments:
    """Running mean and second moment of outputs, in float64."""

    def __init__(self, outputs: int):
        self.frames = 0
        self.sum = torch.zeros(outputs, dtype=torch.float64)
        self.products = torch.zeros(outputs, outputs, dtype=torch.float64)

    def add(self, outputs: Tensor) -> None:
        """Add the outputs of a batch, (frames, outputs)."""
        outputs = outputs.double().cpu()
        self.frames += len(outputs)
        self.sum += outputs.sum(0)
        self.products += outputs.T @ outputs

    def components(self) -> Components:
        """The principal components of all that was added."""
        mean = self.sum / self.frames
        variances, vectors = torch.linalg.eigh(self.products / self.frames - torch.outer(mean, mean))
        return Components(mean, vectors.flip(1), variances.flip(0).clamp_min(0))


def projections(model: nn.Module, anatomy: Anatomy, scope: str) -> dict[str, Group]:
    """Path of every linear layer and pointwise convolution of what can be cut within `scope` -> its group."""
    found = {}
    for group in anatomy.within(scope):
        names = [*(row.tensor for row in group.kind.slices), f"{group.kind.consumer}.weight"]
        for name in dict.fromkeys(names):
            path = f"{group.home}.{name}".rpartition(".")[0]
            if _is_projection(model.get_submodule(path)):
                found[path] = group
    return found


def _is_projection(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv1d):
        return layer.kernel_size == (1,) and layer.groups == 1 and layer.stride == (1,)
    return isinstance(layer, nn.Linear)


@torch.no_grad()
def principal_components(
    model: PreTrainedModel, groups: Mapping[str, Group], batches: Iterable[Batch]
) -> dict[str, Components]:
    """Components of the outputs of projections on the valid frames of `batches`, all of the model as it is.

    Args:
        groups: path -> group, as `projections` gives.
        batches: calibration batches, on the model's device.
    """
    moments = {path: Moments(_sides(model.get_submodule(path))[1]) for path in groups}
    with eval_mode(model):
        for batch in batches:
            with _outputs_of_groups(model, groups) as finished:
                model(**batch.inputs)
            for path, outputs in finished.items():
                moments[path].add(_valid(outputs, model, batch, groups[path], finished))
    return {path: one.components() for path, one in moments.items()}


@contextmanager
def _outputs_of_groups(model: nn.Module, groups: Mapping[str, Group]) -> Iterator[dict[str, Tensor]]:
    """Path -> (batch, positions, outputs) of each projection in a forward within the context."""
    found: dict[str, Tensor] = {}

    def keep(path: str) -> Any:
        def hook(layer: nn.Module, args: Any, output: Tensor) -> None:
            found[path] = output.transpose(1, 2) if isinstance(layer, nn.Conv1d) else output

        return hook

    handles = [model.get_submodule(path).register_forward_hook(keep(path)) for path in groups]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _valid(outputs: Tensor, model: PreTrainedModel, batch: Batch, group: Group, found: Mapping[str, Tensor]) -> Tensor:
    """(frames, outputs) without padding; all of what is not of the group's own positions, as relative positions are."""
    own = found[group.consumer]
    if outputs.shape[:2] != own.shape[:2]:
        return outputs.flatten(0, 1)
    return outputs[valid_frames(model, batch.inputs, own, positions=group.positions)]


def _sides(layer: Any) -> tuple[int, int]:
    """Inputs and outputs of a projection."""
    return layer.weight.shape[1], layer.weight.shape[0]


@torch.no_grad()
def factored(layer: Any, components: Components, rank: int) -> nn.Sequential:
    """Two projections onto and from the first `rank` components, in place of one; the first has no bias."""
    inputs, outputs = _sides(layer)
    kept, mean = components.vectors[:, :rank], components.mean
    weight = layer.weight.detach().cpu().double().flatten(1)
    bias = torch.zeros(outputs).double() if layer.bias is None else layer.bias.detach().cpu().double()
    given = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Conv1d):
        pair = nn.Conv1d(inputs, rank, 1, bias=False, **given), nn.Conv1d(rank, outputs, 1, **given)
    else:
        pair = nn.Linear(inputs, rank, bias=False, **given), nn.Linear(rank, outputs, **given)
    pair[0].weight.copy_((kept.T @ weight).view_as(pair[0].weight))
    pair[1].weight.copy_(kept.view_as(pair[1].weight))
    pair[1].bias.copy_(mean + kept @ (kept.T @ (bias - mean)))
    return nn.Sequential(*pair)


@dataclass(frozen=True)
class Savings:
    """What factoring removes of a model's parameters and multiply-accumulates."""

    shapes: Mapping[str, tuple[int, int, bool]]
    """Path of a projection -> inputs, outputs, whether it has a bias."""
    positions: Mapping[str, float]
    """Path -> positions that it is applied at in a second of audio."""
    scopes: Mapping[str, Any]
    """`Anatomy.scopes`."""
    dense: Mapping[str, Mapping[str, float]]
    """`ModelCosts.dense`."""
    patience: Mapping[str, float]
    """Path -> ATTENTION or 1: how much of the variance its components may leave, beside others."""

    @classmethod
    def of(
        cls, model: Any, groups: Mapping[str, Group], anatomy: Anatomy, costs: ModelCosts, processor: Any
    ) -> "Savings":
        """The counts of a dense model; `groups` as `projections` gives."""
        reference = reference_of(model, processor)
        layers = {path: model.get_submodule(path) for path in groups}
        shapes = {path: (*_sides(layer), layer.bias is not None) for path, layer in layers.items()}
        positions = {path: reference.positions[path] / reference.seconds for path in layers}
        patience = {path: ATTENTION if "attention" in one.kind.name else 1.0 for path, one in groups.items()}
        return cls(shapes, positions, anatomy.scopes, costs.dense(), patience)

    def smaller(self, path: str, rank: int) -> int:
        """Parameters that a rank saves; not above zero where the projection should stay whole."""
        inputs, outputs, bias = self.shapes[path]
        return inputs * outputs + bias * outputs - (rank * (inputs + outputs) + outputs)

    def shares(self, ranks: Mapping[str, int]) -> dict[str, dict[str, float]]:
        """Budget -> scope -> share of the dense cost removed, with the projections in `ranks` factored."""
        removed = {name: dict.fromkeys(self.scopes, 0.0) for name in ("params", "macs")}
        for path, rank in ranks.items():
            inputs, outputs, _ = self.shapes[path]
            macs = (inputs * outputs - rank * (inputs + outputs)) * self.positions[path]
            for scope in filter(lambda one: path.startswith(self.scopes[one]), self.scopes):
                removed["params"][scope] += self.smaller(path, rank) / self.dense["params"][scope]
                removed["macs"][scope] += macs / self.dense["macs"][scope]
        return removed


def ranks_at(left: float, components: Mapping[str, Components], savings: Savings) -> dict[str, int]:
    """Rank of every projection that becomes smaller where its components leave `left` of the variance.

    Those of attention leave ATTENTION times as much.
    """
    ranks = {path: 1 + int((one.left > left * savings.patience[path]).sum()) for path, one in components.items()}
    return {path: rank for path, rank in ranks.items() if savings.smaller(path, rank) > 0}


def ranks_for(config: PruneConfig, components: Mapping[str, Components], savings: Savings) -> dict[str, int]:
    """The highest ranks that remove the target's share of each of its budgets.

    Raises:
        OptionError: not even rank one everywhere removes as much.
    """
    budgets = BUDGETS[config.budget]

    def removed(left: float) -> float:
        found = savings.shares(ranks_at(left, components, savings))
        return min(found[name][config.of] for name in budgets)

    each = [one.left / savings.patience[path] for path, one in components.items()]
    shares = torch.cat(each).unique().tolist()  # ascending: where a rank changes
    enough = bisect_left(shares, True, key=lambda left: removed(left) >= config.remove)
    if enough == len(shares):
        advice = f"rank one everywhere removes {removed(1.0):.1%}: ask for less"
        raise OptionError("remove", config.remove, advice, owner="PruneConfig")
    return ranks_at(shares[enough], components, savings)


def factorise(
    model: PreTrainedModel, processor: ProcessorMixin, *, config: PruneConfig, batches: Iterable[Batch]
) -> tuple[dict[str, int], dict[str, dict[str, float]]]:
    """Factor the projections of a dense model, in place, at the target's cost.

    Returns:
        The rank of every projection that was factored by its path, and the shares of the costs that left.
    """
    anatomy = anatomy_of(model)
    groups = projections(model, anatomy, config.of)
    savings = Savings.of(model, groups, anatomy, ModelCosts.of(model, anatomy, processor), processor)
    components = principal_components(model, groups, batches)
    ranks = ranks_for(config, components, savings)
    for path, rank in ranks.items():
        model.set_submodule(path, factored(model.get_submodule(path), components[path], rank))
    return ranks, savings.shares(ranks)
