"""Wav2Vec2-BERT, on log-mel features: a Conformer whose convolutions are causal and normalised over their channels."""

from dataclasses import replace
from typing import Any

from trimbre.models.anatomy import Anatomy, Kind
from trimbre.models.families import wav2vec2_conformer
from trimbre.models.families.kinds import whole_conv_module
from trimbre.models.families.registry import Family
from trimbre.models.heads.ctc import CTC


def self_attention(module: Any) -> Kind:
    """The kind of an attention module, relative or rotary, or with an embedding of every distance."""
    kind, head_dim = wav2vec2_conformer.self_attention(module), module.head_size
    if module.position_embeddings_type != "relative_key":
        return kind
    # Queries are also compared with the embeddings.
    return replace(kind, products=lambda frames, keys: 3 * head_dim * frames * keys)


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `Wav2Vec2BertForCTC`, dense or pruned before.

    A LayerNorm over all channels of a convolution module makes something else of each where some are missing: they stay
    or leave together.
    """
    return wav2vec2_conformer.anatomy(model, self_attention, whole_conv_module(model.config.hidden_size))


FAMILY = Family(
    name="wav2vec2-bert",
    classes=("Wav2Vec2BertForCTC",),
    head=CTC(masks_padding=True),
    anatomy=anatomy,
    runtimes=(),
)
