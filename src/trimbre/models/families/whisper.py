"""Whisper: an encoder of audio and a decoder of text, whose feed-forwards lie directly in their blocks."""

from typing import Any

from transformers import WhisperForConditionalGeneration

from trimbre.models.anatomy import Anatomy, Kind, Slice
from trimbre.models.families.blocks import Branch, groups_of
from trimbre.models.modeling_trimbre import Skipped
from trimbre.plan import Plan

ENCODER, DECODER = "model.encoder.layers", "model.decoder.layers"

FEED_FORWARD = Kind(
    name="ffn",
    unit="feed-forward unit",
    slices=(Slice("fc1.weight", 0), Slice("fc1.bias", 0), Slice("fc2.weight", 1)),
    consumer="fc2",
    parts=("fc1", "fc2"),
)


def attention(head_dim: int, name: str = "attention", source: int | None = None) -> Kind:
    """Attention with heads of `head_dim`, over `source` positions of the audio or, if None, over its own."""
    projections = ("q_proj.weight", "q_proj.bias", "k_proj.weight", "v_proj.weight", "v_proj.bias")
    return Kind(
        name=name,
        unit="attention head",
        slices=(
            *(Slice(tensor, 0, rows=head_dim) for tensor in projections),
            Slice("out_proj.weight", 1, rows=head_dim),
        ),
        consumer="out_proj",
        rows=head_dim,
        attributes={"num_heads": 1},
        outputs=2,
        products=lambda positions: 2 * head_dim * positions * (source or positions),
    )


def describe(model: WhisperForConditionalGeneration) -> Anatomy:
    """What can be cut from a `WhisperForConditionalGeneration`, dense or pruned before."""
    source = model.config.max_source_positions
    heard = Branch("self_attn", "self_attn_layer_norm", "final_layer_norm", lambda m: attention(m.head_dim))
    written = Branch(
        "self_attn",
        "self_attn_layer_norm",
        "encoder_attn_layer_norm",
        lambda m: attention(m.head_dim, "decoder-attention"),
    )
    cross = Branch(
        "encoder_attn",
        "encoder_attn_layer_norm",
        "final_layer_norm",
        lambda m: attention(m.head_dim, "cross-attention", source),
    )
    feed_forward = Branch("ffn", "final_layer_norm", None, lambda block: FEED_FORWARD)
    encoder = groups_of(model.model.encoder.layers, ENCODER, (heard, feed_forward), end="model.encoder.layer_norm")
    decoder = groups_of(
        model.model.decoder.layers,
        DECODER,
        (written, cross, feed_forward),
        end="model.decoder.layer_norm",
        written=True,
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
    """Let the heads that align words with audio be found after the cut, by their new numbers.

    Those that left are left out. Once a layer has no cross-attention none can be named, for transformers takes it that
    all layers have some: words then bear no times, and it says so.
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
