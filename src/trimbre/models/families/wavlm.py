"""WavLM: wav2vec 2.0 with a position bias that the first layer makes for all, and that every layer gates by head."""

from dataclasses import replace
from typing import Any

from trimbre.models.anatomy import Anatomy, Kind, Slice
from trimbre.models.families import wav2vec2
from trimbre.models.families.registry import Family
from trimbre.models.heads.ctc import CTC


def self_attention(module: Any) -> Kind:
    """Attention with a gate for every head; what it is computed by (`SeparateHeads`) is the same for all heads."""
    kind = wav2vec2.self_attention(module)
    slices = (*kind.slices, Slice("gru_rel_pos_const", 1))
    return replace(kind, slices=slices, outputs=3, per_unit=("gru_rel_pos_linear",))


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `WavLMForCTC`, dense or pruned before; one head of the first layer stays."""
    found = wav2vec2.anatomy(model, self_attention)
    first = f"{model.base_model_prefix}.encoder.layers.0.attention"  # the others have their position bias from it
    groups = [replace(one, skippable=False, least=1) if one.path == first else one for one in found.groups]
    return replace(found, groups=tuple(groups))


FAMILY = Family(name="wavlm", classes=("WavLMForCTC",), head=CTC(), anatomy=anatomy, runtimes=())
