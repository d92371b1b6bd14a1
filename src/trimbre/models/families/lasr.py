"""LASR, such as MedASR: a Conformer with rotary attention, whose blocks weigh their residual streams."""

from typing import Any

from trimbre.models.anatomy import Anatomy, Kind
from trimbre.models.families import kinds
from trimbre.models.families.blocks import groups_of
from trimbre.models.families.parakeet import PROJECTIONS, branches
from trimbre.models.families.registry import Family
from trimbre.models.heads.ctc import CTC


def attention(module: Any) -> Kind:
    """The kind of an attention module."""
    return kinds.attention(module.head_dim, PROJECTIONS, "o_proj")


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `LasrForCTC`, dense or pruned before."""
    groups = groups_of(model.encoder.layers, "encoder.layers", branches(attention))
    return Anatomy(tuple(groups), {"blocks": "encoder.layers.", "encoder": "encoder.", "model": ""})


FAMILY = Family(
    name="lasr",
    classes=("LasrForCTC",),
    head=CTC(lengths="_get_subsampling_output_length", masks_padding=True),
    anatomy=anatomy,
    runtimes=(),
)
