"""Whisper's decoder as one graph, for the prompt and for every later token, so that weights are stored once.

Its key-value caches of earlier tokens and of the audio are inputs, and it computes what they lack. Caches of a pruned
decoder differ from layer to layer, and an attention without heads has none.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from trimbre.exporting.targets import Trial, noise
from trimbre.models.inputs import features_of, rate_of
from trimbre.models.modeling_trimbre import Skipped

CHECKED_TOKENS = ((1, 1, 1), (1, 4, 1), (2, 3, 1), (3, 6, 2))
"""Trials of the decoder: batch size, tokens without caches, and further tokens with caches."""
FIRST_WRITTEN = 4
"""Position of onnx-asr's first text token: after start, language, task and no timestamps."""


class Cache(NamedTuple):
    """One of a decoder's cache tensors, (batch, heads, positions, head size)."""

    name: str
    """NAME in the input `past_key_values.NAME` and the output `present.NAME`."""
    heads: int
    head_dim: int

    @property
    def of_audio(self) -> bool:
        return ".encoder." in self.name


def caches_of(model: Any) -> list[Cache]:
    """Keys and values of every attention of the decoder that has heads.

    Without any self-attention, a cache of zeros counts the tokens, from which the position of a token follows.
    """
    found = []
    for index, layer in enumerate(model.model.decoder.layers):
        for name, attention in (("decoder", layer.self_attn), ("encoder", layer.encoder_attn)):
            if not isinstance(attention, Skipped):
                size = attention.num_heads, attention.head_dim
                found += [Cache(f"{index}.{name}.{side}", *size) for side in ("key", "value")]
    counted = all(cache.of_audio for cache in found)
    return [Cache("0.decoder.key", 1, 1), *found] if counted else found


class CachedDecoder(nn.Module):
    """The decoder and its output projection, with caches as inputs and outputs.

    Args:
        silenced: suppressed labels, (4, labels) bool; see `silenced_by`.
        most: tokens of a text at most, for which they count.
    """

    silenced: Tensor | None

    def __init__(self, model: Any, caches: list[Cache], silenced: Tensor | None, most: int):
        super().__init__()
        self.decoder = model.model.decoder
        self.head = model.proj_out
        self.names = [cache.name for cache in caches]
        self.most = most
        self.register_buffer("silenced", silenced)

    def forward(self, input_ids: Tensor, hidden: Tensor, use_cache_branch: Tensor, *given: Tensor) -> Any:
        past = {name: batched(cache, input_ids) for name, cache in zip(self.names, given, strict=True)}
        written = next(cache.shape[2] for name, cache in past.items() if ".decoder." in name)
        tokens = input_ids.shape[1]
        positions = written + torch.arange(tokens)
        unseen = torch.arange(written + tokens)[None] > positions[:, None]
        # All of the batch, or none of it: caches of the audio are outputs only where they were not inputs.
        lacking = (~use_cache_branch).expand(input_ids.shape[0]).nonzero()[:, 0]
        present: dict[str, Tensor] = {}
        states = self.decoder.embed_tokens(input_ids) + self.decoder.embed_positions.weight[written : written + tokens]
        for index, layer in enumerate(self.decoder.layers):
            normed = layer.self_attn_layer_norm(states)
            if (name := f"{index}.decoder.key") in past and f"{index}.decoder.value" in past:
                keys, values = past[name], past[f"{index}.decoder.value"]
                new_keys, new_values = keys_and_values(layer.self_attn, normed)
                keys, values = torch.cat([keys, new_keys], 2), torch.cat([values, new_values], 2)
                scores = queries(layer.self_attn, normed) @ keys.transpose(2, 3)
                weights = scores.masked_fill(unseen, -torch.inf).softmax(-1)
                states = states + joined(layer.self_attn, weights @ values)
                present[name], present[f"{index}.decoder.value"] = keys, values
            else:
                states = states + layer.self_attn(normed)[0]
                if name in past:
                    present[name] = torch.cat([past[name], states.new_zeros(input_ids.shape[0], 1, tokens, 1)], 2)
            normed = layer.encoder_attn_layer_norm(states)
            if (name := f"{index}.encoder.key") in past:
                keys, values = past[name], past[f"{index}.encoder.value"]
                # Only audio positions that are not cached are computed, and caches are not copied to append to them.
                cached = keys.shape[2]
                new_keys, new_values = keys_and_values(layer.encoder_attn, hidden[:, cached:])
                asked = queries(layer.encoder_attn, normed)
                weights = torch.cat([asked @ each.transpose(2, 3) for each in (keys, new_keys)], -1).softmax(-1)
                found = weights[..., :cached] @ values + weights[..., cached:] @ new_values
                states = states + joined(layer.encoder_attn, found)
                present[name] = new_keys.index_select(0, lacking)
                present[f"{index}.encoder.value"] = new_values.index_select(0, lacking)
            else:
                states = states + layer.encoder_attn(normed)[0]
            normed = layer.final_layer_norm(states)
            states = states + layer.fc2(layer.activation_fn(layer.fc1(normed)))
        logits = self.head(self.decoder.layer_norm(states))
        if self.silenced is not None:
            logits = silence(logits, positions, self.silenced, self.most)
        return logits, *(present[name] for name in self.names)


def batched(cache: Tensor, like: Tensor) -> Tensor:
    """A cache, (batch, heads, positions, head size), whose batch is 0 where it is empty, with the batch of `like`."""
    sizes = partial(symbolic, dtype=torch.int64)
    batch = sizes("Shape", (like,), {"start": 0, "end": 1}, shape=(1,))
    rest = sizes("Shape", (cache,), {"start": 1}, shape=(3,))
    shape = sizes("Concat", (batch, rest), {"axis": 0}, shape=(4,))
    # Not a torch reshape, which would refuse to change the batch of an empty tensor.
    return symbolic(
        "Reshape", (cache, shape), {"allowzero": 1}, dtype=cache.dtype, shape=(like.shape[0], *cache.shape[1:])
    )


def keys_and_values(attention: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of (batch, positions, dim), each as (batch, heads, positions, head size)."""
    return in_heads(attention, attention.k_proj(states)), in_heads(attention, attention.v_proj(states))


def queries(attention: Any, states: Tensor) -> Tensor:
    """Scaled queries of (batch, tokens, dim), as (batch, heads, tokens, head size)."""
    return in_heads(attention, attention.q_proj(states) * attention.scaling)


def joined(attention: Any, found: Tensor) -> Tensor:
    """The output projection of the heads' outputs (batch, heads, tokens, head size), (batch, tokens, dim)."""
    return attention.out_proj(found.transpose(1, 2).flatten(2))


def in_heads(attention: Any, states: Tensor) -> Tensor:
    return states.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)


def silence(logits: Tensor, positions: Tensor, silenced: Tensor, most: int) -> Tensor:
    """Logits (batch, tokens, labels) with those of suppressed labels set below the lowest.

    onnx-asr takes the label with the highest logit, so that suppression has to be part of the graph: also to detect
    none but the model's languages, or only the preset one, and to end a text of `most` tokens.
    """
    positions = positions[:, None]
    begins, ends = positions == 0, positions >= most - 1
    written = silenced[0] | (silenced[1] & (positions == FIRST_WRITTEN - 1))
    kept_out = (written & ~begins & ~ends) | (silenced[2] & begins) | (silenced[3] & ends)
    return torch.where(kept_out, logits.amin(-1, keepdim=True) - 1, logits)


@torch.no_grad()
def trials(model: Any, processor: Any, caches: list[Cache], silenced: Tensor | None, most: int) -> Iterator[Trial]:
    """Two for each of `CHECKED_TOKENS`: without caches, then with transformers' own caches after the first tokens."""
    for batch, first, more in CHECKED_TOKENS:
        features = features_of(noise([3.7] * batch, rate_of(processor)), processor)["input_features"]
        hidden = model.model.encoder(features).last_hidden_state
        text = torch.arange(batch * (first + more)).reshape(batch, -1) * 7 % model.config.vocab_size
        logits, _ = written_by(model, hidden, text, caches)
        if silenced is not None:
            logits = silence(logits, torch.arange(first + more), silenced, most)
        begun = written_by(model, hidden, text[:, :first], caches)[1]
        ended = written_by(model, hidden, text, caches)[1]
        empty = {cache.name: torch.zeros(0, cache.heads, 0, cache.head_dim) for cache in caches}
        spent = {cache.name: empty[cache.name] if cache.of_audio else ended[cache.name] for cache in caches}
        for tokens, given, made, expected in (
            (text[:, :first], empty, begun, logits[:, :first]),
            (text[:, first:], begun, spent, logits[:, first:]),
        ):
            yield Trial(
                {
                    "input_ids": tokens,
                    "encoder_hidden_states": hidden,
                    "use_cache_branch": torch.tensor([given is begun]),
                    **{f"past_key_values.{name}": cache for name, cache in given.items()},
                },
                {"logits": expected, **{f"present.{name}": cache for name, cache in made.items()}},
            )


def written_by(model: Any, hidden: Tensor, text: Tensor, caches: list[Cache]) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and caches of a text, by transformers' own forward."""
    output = model(encoder_outputs=(hidden,), decoder_input_ids=text, use_cache=True)
    cache = output["cache" if "cache" in output else "past_key_values"]  # transformers renamed it
    sides = {"decoder": cache.self_attention_cache, "encoder": cache.cross_attention_cache}
    found = {}
    for name, *_ in caches:
        layer, side, what = name.split(".")
        found[name] = getattr(sides[side].layers[int(layer)], f"{what}s")
    return output.logits, found
