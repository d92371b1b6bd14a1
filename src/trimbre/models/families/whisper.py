"""Whisper: an encoder of audio and a decoder of text, whose feed-forwards lie directly in their blocks."""

from dataclasses import replace
from functools import partial
from typing import Any

from trimbre.models.anatomy import Anatomy, Kind, Rows
from trimbre.models.families import kinds
from trimbre.models.families.blocks import Branch, encoder_decoder
from trimbre.models.families.registry import Family
from trimbre.models.heads.whisper import Whisper
from trimbre.models.modeling_trimbre import Skipped
from trimbre.plan import Plan

PROJECTIONS = ("q_proj.weight", "q_proj.bias", "k_proj.weight", "v_proj.weight", "v_proj.bias")
FEED_FORWARD = kinds.feed_forward("fc1", "fc2", in_block=True)


def attention(module: Any, *, name: str = "attention", source: str = "") -> Kind:
    """The kind of an attention module; `source` as in `kinds.attention`."""
    attributes = {"num_heads": 1}
    return kinds.attention(module.head_dim, PROJECTIONS, "out_proj", name=name, attributes=attributes, source=source)


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `WhisperForConditionalGeneration`, dense or pruned before."""
    own, crossed = (
        partial(attention, name="decoder-attention"),
        partial(attention, name="cross-attention", source="k_proj"),
    )
    feed_forward = Branch("ffn", "final_layer_norm", None, lambda block: FEED_FORWARD)
    encoder = (Branch("self_attn", "self_attn_layer_norm", "final_layer_norm", attention), feed_forward)
    decoder = (
        Branch("self_attn", "self_attn_layer_norm", "encoder_attn_layer_norm", own),
        Branch("encoder_attn", "encoder_attn_layer_norm", "final_layer_norm", crossed),
        feed_forward,
    )
    ends = ("model.encoder.layer_norm", "model.decoder.layer_norm")
    described = encoder_decoder(model, encoder, decoder, ends=ends)
    return replace(described, follow=renumber_alignment, rows=rows_of(model))


def rows_of(model: Any) -> Rows:
    """The vocabulary: its embedding is the projection to logits too, unless a fine-tuned model parted them."""
    embedding, head = model.model.decoder.embed_tokens.weight, model.proj_out.weight
    return Rows(model.config.vocab_size, embedding.shape[1] * (1 if head is embedding else 2))


def renumber_alignment(model: Any, plan: Plan) -> None:
    """Renumber the heads that align words with audio, after the cut, in place.

    Those that left are left out. Once a layer has no cross-attention none can be named, for transformers takes it that
    all layers have some: words then have no timestamps, and transformers says so.
    """
    generation = model.generation_config
    crosses = [layer.encoder_attn for layer in model.model.decoder.layers]
    if not hasattr(generation, "alignment_heads"):
        return
    found = []
    if not any(isinstance(cross, Skipped) for cross in crosses):
        kept = [plan.kept[f"model.decoder.layers.{layer}.encoder_attn"] for layer in range(len(crosses))]
        found = [[layer, kept[layer].index(head)] for layer, head in generation.alignment_heads if head in kept[layer]]
    if found:
        generation.alignment_heads = found
    else:
        del generation.alignment_heads


FAMILY = Family(
    name="whisper",
    classes=("WhisperForConditionalGeneration",),
    head=Whisper(),
    anatomy=anatomy,
    runtimes=("onnx", "onnx-asr"),
    exporter="whisper",
)
