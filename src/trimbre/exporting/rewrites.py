"""Equivalent forms of a Parakeet's modules with fewer memory-bound operators in the exported graph.

Outputs are equal up to rounding on valid frames; outputs on padding, which has to follow the audio, are undefined.
Matrix products run at the processor's peak in ONNX Runtime, and element-wise operators between them do not; their share
of the time grows as modules get narrower, and pruning does not remove them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trimbre.models.families.registry import family_of

SPACING = 32
"""Distance between positions whose sines are computed directly."""
NEVER = 1e4
"""Subtracted on padding before a softmax or a rectifier: far above any score or feature, and within float16."""


def rewrite_operators(model: Any) -> None:
    """Replace modules by their forms, in place, in a copy of a model that is exported; other families are unchanged."""
    names = family_of(model).forms
    for path, module in list(model.named_modules()):
        form = FORMS.get(names.get(type(module).__name__, ""))
        if form is not None:
            model.set_submodule(path, form(module))


class Subsampling(nn.Module):
    """The convolutional front end with one mask in place of two, the first of them inside the first convolution.

    A 0/1 mask commutes with a rectifier, so that the convolution before it can apply it; and no mask is needed between
    a depthwise and a pointwise convolution, which reads every position separately.
    """

    def __init__(self, front: Any):
        super().__init__()
        first, rectifier, *rest = front.layers
        self.first, self.rectifier, self.layers = Masking(first), rectifier, nn.ModuleList(rest)
        self.linear = front.linear
        self.length_of = front._get_output_length

    def forward(self, input_features: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        hidden = self.rectifier(self.first(input_features, attention_mask))
        lengths = None if attention_mask is None else self.length_of(attention_mask.sum(-1), self.first.convolution)
        for layer in self.layers:
            hidden = layer(hidden)
            if lengths is not None and isinstance(layer, nn.Conv2d):
                lengths = self.length_of(lengths, layer)
            if lengths is not None and isinstance(layer, nn.ReLU):
                kept = (torch.arange(hidden.shape[2]) < lengths[:, None]).to(hidden.dtype)
                hidden = hidden * kept[:, None, :, None].expand(-1, 1, -1, hidden.shape[3])
        hidden = hidden.transpose(1, 2).reshape(hidden.shape[0], hidden.shape[2], -1)
        return self.linear(hidden)


class Masking(nn.Module):
    """The first convolution with the padding mask as a second input channel, which moves outputs on padding below zero.

    With kernel k, padding p and stride s, frame t of the output is padding exactly if frame s t + k - 1 - 2 p of the
    input is, which a single tap of the kernel reads. Its large weight is why this convolution must not be quantised
    with one scale.
    """

    def __init__(self, convolution: Any):
        super().__init__()
        kernel, padding = convolution.kernel_size, convolution.padding
        self.convolution = nn.Conv2d(2, convolution.out_channels, kernel, convolution.stride, padding)
        self.convolution.to(convolution.weight.dtype)
        with torch.no_grad():
            self.convolution.weight.zero_()
            self.convolution.weight[:, :1] = convolution.weight
            self.convolution.weight[:, 1, kernel[0] - 1 - padding[0], padding[1]] = -NEVER
            self.convolution.bias = nn.Parameter(convolution.bias.clone())

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        padded = torch.zeros_like(features) if mask is None else mask.logical_not().to(features.dtype).unsqueeze(-1)
        return self.convolution(torch.stack([features, padded.expand_as(features)], 1))


class Positions(nn.Module):
    """Sinusoids of the relative positions time-1 .. -time, (1, 2 time, dim): all sines, then all cosines.

    By the sine of a difference they follow from those of every `SPACING`-th position and of the offsets between, which
    takes two products each in place of a sine. The last position is unused; it makes rows of 2 time, which `Attention`
    reads, and no other module.
    """

    rates: Tensor

    def __init__(self, positions: Any):
        super().__init__()
        self.register_buffer("rates", positions.inv_freq.detach().clone())

    def forward(self, hidden_states: Tensor) -> Tensor:
        time, dim = hidden_states.shape[1], self.rates.shape[0]
        far = (time - 1 - torch.arange(0, 2 * time, SPACING).to(self.rates))[:, None, None] * self.rates
        near = torch.arange(SPACING).to(self.rates)[:, None] * self.rates
        sines = far.sin() * near.cos() - far.cos() * near.sin()
        cosines = far.cos() * near.cos() + far.sin() * near.sin()
        return torch.cat([sines, cosines], -1).reshape(1, -1, 2 * dim)[:, : 2 * time]


class Attention(nn.Module):
    """Relative attention with scale and biases folded into the weights, and a relative shift by two slices.

    It reads the positions of `Positions`. The content bias is folded into the bias of the query projection, and the
    position bias minus the content bias is added for positions. Biases of keys add a constant to each row, to which
    softmax is invariant. Biases of values pass through attention weights, which sum to 1, into the output's bias.
    """

    def __init__(self, attention: Any):
        super().__init__()
        self.head_dim, scale = attention.head_dim, attention.scaling
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.q_proj, self.k_proj, self.v_proj = (
            nn.Linear(p.in_features, p.out_features, bias=p is attention.q_proj) for p in projections
        )
        by_position = attention.relative_k_proj
        self.relative_k_proj = nn.Linear(by_position.in_features, by_position.out_features, bias=False)
        self.o_proj = attention.o_proj
        with torch.no_grad():
            self.q_proj.weight = nn.Parameter(attention.q_proj.weight * scale)
            # Sines and cosines take turns in transformers.
            halves = (by_position.weight[:, 0::2], by_position.weight[:, 1::2])
            self.relative_k_proj.weight = nn.Parameter(torch.cat(halves, 1))
            self.k_proj.weight, self.v_proj.weight = attention.k_proj.weight, attention.v_proj.weight
            asked = 0.0 if attention.q_proj.bias is None else attention.q_proj.bias
            self.q_proj.bias = nn.Parameter((attention.bias_u.flatten() + asked) * scale)
            self.bias = nn.Parameter(((attention.bias_v - attention.bias_u) * scale).unsqueeze(1))
            if attention.v_proj.bias is not None:
                given = self.o_proj.weight @ attention.v_proj.bias
                self.o_proj.bias = nn.Parameter(given if self.o_proj.bias is None else given + self.o_proj.bias)

    def forward(
        self, hidden_states: Tensor, position_embeddings: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, None]:
        batch, time = hidden_states.shape[:2]
        heads = self.bias.shape[0]

        def apart(hidden: Tensor) -> Tensor:  # (batch, heads, time, head size)
            return hidden.reshape(hidden.shape[0], hidden.shape[1], heads, self.head_dim).transpose(1, 2)

        query = apart(self.q_proj(hidden_states))
        positions = apart(self.relative_k_proj(position_embeddings))
        by_position = (query + self.bias) @ positions.transpose(2, 3)
        flat = by_position.reshape(batch, heads, 2 * time * time)[:, :, time - 1 : time - 1 + time * (2 * time - 1)]
        by_position = flat.reshape(batch, heads, time, 2 * time - 1)[..., :time]
        scores = query @ apart(self.k_proj(hidden_states)).transpose(2, 3) + by_position
        if attention_mask is not None:
            # Keys only: rows of padded queries are undefined. Adding is faster than `where`.
            valid = _valid(attention_mask).to(scores.dtype)
            scores = scores + (valid - 1)[:, None, None] * NEVER
        mixed = scores.softmax(-1) @ apart(self.v_proj(hidden_states))
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, time, heads * self.head_dim)), None


class Convolution(nn.Module):
    """A convolution module that gates and masks before transposing, so that one tensor is transposed and not two."""

    def __init__(self, module: Any):
        super().__init__()
        for name, child in module.named_children():
            self.add_module(name, child)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        part: Any = self
        widened = part.pointwise_conv1(hidden_states.transpose(1, 2)).transpose(1, 2)
        passed, gates = widened.chunk(2, dim=-1)
        gates = gates.sigmoid()
        if attention_mask is not None:
            gates = gates * _valid(attention_mask).to(gates.dtype).unsqueeze(-1)
        hidden = part.depthwise_conv((passed * gates).transpose(1, 2))
        return part.pointwise_conv2(part.activation(part.norm(hidden))).transpose(1, 2)


def _valid(attention_mask: Tensor) -> Tensor:
    """(batch, time), True on valid frames, of a mask (batch, 1, time, time): the keys of the first frame."""
    return attention_mask[:, 0, 0]


class Block(nn.Module):
    """A block with the factor 1/2 of its feed-forwards folded into their weights."""

    def __init__(self, block: Any):
        super().__init__()
        for name, child in block.named_children():
            self.add_module(name, child)
        with torch.no_grad():
            for branch in (block.feed_forward1, block.feed_forward2):
                consumer = dict(branch.named_children()).get("linear2")  # one that was skipped has none
                for parameter in () if consumer is None else consumer.parameters():
                    parameter.mul_(0.5)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        part: Any = self
        hidden = hidden_states + part.feed_forward1(part.norm_feed_forward1(hidden_states))
        hidden = (
            hidden
            + part.self_attn(
                hidden_states=part.norm_self_att(hidden),
                attention_mask=attention_mask,
                position_embeddings=position_embeddings,
            )[0]
        )
        hidden = hidden + part.conv(part.norm_conv(hidden), attention_mask=attention_mask)
        hidden = hidden + part.feed_forward2(part.norm_feed_forward2(hidden))
        return part.norm_out(hidden)


FORMS: dict[str, Callable[[Any], nn.Module]] = {
    "subsampling": Subsampling,
    "positions": Positions,
    "attention": Attention,
    "convolution": Convolution,
    "block": Block,
}
"""By the names that `Family.forms` calls them. `positions` and `attention` go together."""
