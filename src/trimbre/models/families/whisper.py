"""Whisper: an encoder of audio and a decoder of text, whose feed-forwards lie directly in their blocks."""

from functools import partial
from typing import Any

from trimbre.models.anatomy import Anatomy, Kind
from trimbre.models.families import kinds
from trimbre.models.families.blocks import Branch, groups_of
from trimbre.models.families.registry import Family
from trimbre.models.heads.seq2seq import Seq2Seq
from trimbre.models.modeling_trimbre import Skipped
from trimbre.plan import Plan

ENCODER, DECODER = "model.encoder.layers", "model.decoder.layers"
PROJECTIONS = ("q_proj.weight", "q_proj.bias", "k_proj.weight", "v_proj.weight", "v_proj.bias")
FEED_FORWARD = kinds.feed_forward("fc1", "fc2", in_block=True)


def attention(module: Any, *, name: str = "attention", source: int | None = None) -> Kind:
    """The kind of an attention module, over `source` positions of the audio or, if None, over its own."""
    attributes = {"num_heads": 1}
    return kinds.attention(module.head_dim, PROJECTIONS, "out_proj", name=name, attributes=attributes, source=source)


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `WhisperForConditionalGeneration`, dense or pruned before."""
    source = model.config.max_source_positions
    encoder_attention = Branch("self_attn", "self_attn_layer_norm", "final_layer_norm", attention)
    decoder_attention = Branch(
        "self_attn", "self_attn_layer_norm", "encoder_attn_layer_norm", partial(attention, name="decoder-attention")
    )
    cross_attention = Branch(
        "encoder_attn",
        "encoder_attn_layer_norm",
        "final_layer_norm",
        partial(attention, name="cross-attention", source=source),
    )
    feed_forward = Branch("ffn", "final_layer_norm", None, lambda block: FEED_FORWARD)
    encoder = groups_of(
        model.model.encoder.layers, ENCODER, (encoder_attention, feed_forward), end="model.encoder.layer_norm"
    )
    decoder = groups_of(
        model.model.decoder.layers,
        DECODER,
        (decoder_attention, cross_attention, feed_forward),
        end="model.decoder.layer_norm",
        positions="tokens",
    )
    scopes = {
        "blocks": (f"{ENCODER}.", f"{DECODER}."),
        "encoder-blocks": f"{ENCODER}.",
        "encoder": "model.encoder.",
        "decoder": ("model.decoder.", "proj_out."),
        "model": "",
    }
    # What a decoder knows of language is not for the few words of a short training to change.
    untouched = {
        "encoder-blocks": scopes["decoder"],
        "encoder": scopes["decoder"],
        "decoder": scopes["encoder"],
    }
    return Anatomy((*encoder, *decoder), scopes, renumber_alignment, untouched)


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
        kept = [plan.kept[f"{DECODER}.{layer}.encoder_attn"] for layer in range(len(crosses))]
        found = [[layer, kept[layer].index(head)] for layer, head in generation.alignment_heads if head in kept[layer]]
    if found:
        generation.alignment_heads = found
    else:
        del generation.alignment_heads


FAMILY = Family(
    name="whisper",
    classes=("WhisperForConditionalGeneration",),
    head=Seq2Seq(),
    anatomy=anatomy,
    runtimes=("onnx", "onnx-asr"),
    exporter="whisper",
)
