"""Models whose modules differ in width, as ordinary transformers classes.

A checkpoint made by Trimbre carries a copy of this file, so that `from_pretrained(path, trust_remote_code=True)` needs
nothing but torch, transformers and safetensors. The classes have the names of the dense ones, any that transformers
has, and equal them unless `config.trimbre` says which modules became narrower and which are gone. The same functions
cut a model in memory (`trimbre.pruning.surgery`), so that a checkpoint cannot be rebuilt in another shape than it was
cut.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from torch import nn

FORMAT = 1


class Skipped(nn.Module):
    """In the place of a residual branch that is gone: contributes nothing, whatever the input."""

    def __init__(self, outputs: int = 1, layer: int | None = None):
        super().__init__()
        self.outputs = outputs
        self.layer = layer

    def forward(self, *args, **kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        cache = kwargs.get("cache", kwargs.get("past_key_values"))  # transformers renamed it
        crossed = kwargs.get("key_value_states", kwargs.get("encoder_hidden_states"))
        if cache is not None and self.layer is not None and crossed is None:
            # generate() asks the cache how many tokens there were: they have to be counted here too
            counted = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[1], 1)
            getattr(cache, "self_attention_cache", cache).update(counted, counted, self.layer)
        contribution = self.contribution(hidden)
        # The third is the position bias that layers of a WavLM hand on.
        handed_on = (None, kwargs.get("position_bias"))[: self.outputs - 1]
        return contribution if self.outputs == 1 else (contribution, *handed_on)

    def contribution(self, hidden):
        return hidden.new_zeros(())  # a tensor, because some families have dropout follow


class BiasOnly(Skipped):
    """In the place of a branch that lost every unit: what remains is the bias of its consuming projection.

    `consumer` is that projection's name within the branch, empty where this stands for the projection alone.
    """

    def __init__(self, consumer: str, bias: nn.Parameter, outputs: int = 1, layer: int | None = None):
        super().__init__(outputs, layer)
        self.consumer = consumer
        if consumer:
            self.add_module(consumer, nn.Module())  # the bias keeps its name in the state dict
        self.get_submodule(consumer).bias = bias

    def contribution(self, hidden):
        return self.get_submodule(self.consumer).bias


class SeparateHeads(nn.Module):
    """The forward of a WavLM's attention with any of its heads, which torch's fused attention does not take.

    The class of a module in place (`separate_heads`), beside the dense one. Every layer reads the position bias of the
    first, of all dense heads, and gates it by the dense heads' shares of its input: those of the heads that are left.
    """

    heads: torch.Tensor
    """(heads,) which of the dense ones they are; there are all of them where it is missing."""

    def keep_heads(self, units: Sequence[int]) -> None:
        gates: Any = self.gru_rel_pos_const
        now = self.heads if "heads" in self._buffers else torch.arange(gates.shape[1], device=gates.device)
        self.register_buffer("heads", now[torch.as_tensor(units, dtype=torch.long, device=now.device)])

    def forward(self, hidden_states, attention_mask=None, position_bias=None, index=0, **kwargs):
        module: Any = self
        batch, time, _ = hidden_states.shape
        if position_bias is None:
            position_bias = module.compute_bias(time, time).repeat(batch, 1, 1)

        def apart(hidden):  # (batch, heads, time, head size)
            return hidden.view(batch, time, -1, module.head_dim).transpose(1, 2)

        shares, bias = apart(hidden_states), position_bias.view(batch, -1, time, time)
        if "heads" in self._buffers:
            shares, bias = shares.index_select(1, self.heads), bias.index_select(1, self.heads)
        first, second = module.gru_rel_pos_linear(shares).unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
        gate = first * (second * module.gru_rel_pos_const - 1) + 2
        query = apart(module.q_proj(hidden_states)) * module.scaling
        scores = query @ apart(module.k_proj(hidden_states)).transpose(2, 3) + gate * bias
        if attention_mask is not None:
            scores = scores.masked_fill(attention_mask.ne(1)[:, None, None], float("-inf"))
        weights = nn.functional.dropout(scores.softmax(-1), module.dropout, self.training)
        mixed = (weights @ apart(module.v_proj(hidden_states))).transpose(1, 2).reshape(batch, time, -1)
        return module.out_proj(mixed), weights, position_bias


FORWARDS = {"WavLMAttention": SeparateHeads}
"""Class of a module -> the forward that calls its projections."""


def separate_heads(module: nn.Module) -> None:
    """Give attention that reads its projections' weights itself its forward of `FORWARDS`, in place; leave the rest."""
    dense = type(module)
    form = FORWARDS.get(dense.__name__)
    if form is not None and not isinstance(module, form):
        module.__class__ = type(dense.__name__, (form, dense), {"__module__": __name__})


class LayerConfig:
    """One layer's view of the model's config: a few fields of its own, every other one read through."""

    def __init__(self, base: Any, **own: Any):
        self.__dict__.update(own, _base=base)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_base":  # copying asks for these before there is a base
            raise AttributeError(name)
        return getattr(self._base, name)


def narrow(model: nn.Module, path: str, kind: Mapping[str, Any], units: Sequence[int], dense: int) -> None:
    """Keep `units` of the `dense` ones of the branch at `path`, in place.

    It is the module there or, where `kind["parts"]` names several, these children of its parent.

    `kind["slices"]` rows are (tensor, axis, rows per unit, repeats): along its axis the tensor holds `repeats` runs of
    `dense` units of so many rows each.
    """
    parts = kind.get("parts", ())
    home = path.rpartition(".")[0] if parts else path
    module: Any = model.get_submodule(home)
    separate_heads(module)
    if isinstance(module, SeparateHeads):
        module.keep_heads(units)
    for tensor, axis, rows, repeats in kind["slices"]:
        owner_path, _, name = tensor.rpartition(".")
        owner = module.get_submodule(owner_path)
        value = getattr(owner, name)
        if value is None:
            continue
        first = torch.as_tensor(units, dtype=torch.long, device=value.device).reshape(1, -1, 1)
        run = torch.arange(repeats, device=value.device).reshape(-1, 1, 1) * dense
        index = ((run + first) * rows + torch.arange(rows, device=value.device)).reshape(-1)
        kept = value.detach().index_select(axis, index)
        setattr(owner, name, nn.Parameter(kept, value.requires_grad) if isinstance(value, nn.Parameter) else kept)
        _declare_shape(owner)
    for attribute, per_unit in kind["attributes"].items():
        if attribute.startswith("config."):
            field = attribute.removeprefix("config.")
            module.config = LayerConfig(module.config, **{field: per_unit * len(units)})
        else:
            setattr(module, attribute, per_unit * len(units))
    if not units:
        bias = module.get_submodule(kind["consumer"]).bias
        layer = getattr(module, "layer_idx", None)
        skip(model, path, None, kind["outputs"], parts)
        if bias is not None and parts:
            model.set_submodule(f"{home}.{kind['consumer']}", BiasOnly("", bias))
        elif bias is not None:
            model.set_submodule(path, BiasOnly(kind["consumer"], bias, kind["outputs"], layer))


def skip(model: nn.Module, path: str, norm: str | None, outputs: int, parts: Sequence[str] = ()) -> None:
    """Take the branch at `path`, and its pre-norm if that is apart from it, away, in place; `parts` as in `narrow`."""
    for gone in [f"{path.rpartition('.')[0]}.{part}" for part in parts] or [path]:
        model.set_submodule(gone, Skipped(outputs, getattr(model.get_submodule(gone), "layer_idx", None)))
    if norm is not None:
        model.set_submodule(norm, nn.Identity())


def shape_like(model: nn.Module, layout: Mapping[str, Any]) -> None:
    """Give a dense model the widths that its `config.trimbre` records.

    Raises:
        ValueError: the layout is of a newer format than this file knows.
    """
    if layout["format"] > FORMAT:
        raise ValueError(
            f"this checkpoint is of Trimbre's format {layout['format']} and this code reads up to {FORMAT}: "
            "use a newer Trimbre, or the modeling_trimbre.py that came with the checkpoint"
        )
    for path, skipped in layout["skipped"].items():
        skip(model, path, **skipped)
    for name, widths in layout["widths"].items():
        for path, (width, dense) in widths.items():
            narrow(model, path, layout["kinds"][name], range(width), dense)


def _declare_shape(module: Any) -> None:
    """Bring the sizes that a layer states of itself in line with its weight."""
    shape: Any = module.weight.shape if isinstance(getattr(module, "weight", None), torch.Tensor) else ()
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = shape
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        depthwise = module.groups > 1
        module.out_channels = shape[0]
        module.in_channels = shape[0] if depthwise else shape[1]
        module.groups = shape[0] if depthwise else 1
    elif isinstance(module, nn.BatchNorm1d):
        module.num_features = shape[0]
    elif isinstance(module, nn.GroupNorm):  # of one channel each: another would not be the same on fewer channels
        module.num_groups = module.num_channels = shape[0]


def is_model_class(name: str) -> bool:
    """Whether transformers has a model class of that name."""
    dense = getattr(transformers, name, None)
    return isinstance(dense, type) and issubclass(dense, transformers.PreTrainedModel)


def __getattr__(name: str) -> Any:
    """The transformers class `name`, whose modules may differ in width, made when it is first asked for."""
    if name.startswith("_") or not is_model_class(name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = _reshaped(getattr(transformers, name))
    return globals()[name]


def _reshaped(dense: Any) -> Any:
    """A subclass of a model class that takes the widths in `config.trimbre`; a model without them is a `dense` one."""

    def __init__(self, config, *args, **kwargs):
        dense.__init__(self, config, *args, **kwargs)
        if layout := getattr(config, "trimbre", None):
            shape_like(self, layout)
        else:  # so that saving it takes no code along
            self.__class__ = dense

    doc = f"`transformers.{dense.__name__}` whose modules may differ in width."
    return type(dense.__name__, (dense,), {"__init__": __init__, "__module__": __name__, "__doc__": doc})
