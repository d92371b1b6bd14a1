"""SEW as a user would register it: blocks with a norm after each branch."""

from typing import Any

from trimbre import Family
from trimbre.models.anatomy import Anatomy
from trimbre.models.families.blocks import Branch, groups_of
from trimbre.models.families.kinds import attention, feed_forward
from trimbre.models.heads.ctc import CTC

BLOCKS = "sew.encoder.layers"
PROJECTIONS = [f"{name}_proj.{part}" for name in "qkv" for part in ("weight", "bias")]


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `SEWForCTC`."""
    branches = (
        Branch("attention", None, "layer_norm", lambda m: attention(m.head_dim, PROJECTIONS, "out_proj")),
        Branch(
            "feed_forward", None, "final_layer_norm", lambda module: feed_forward("intermediate_dense", "output_dense")
        ),
    )
    groups = groups_of(model.sew.encoder.layers, BLOCKS, branches)
    return Anatomy(tuple(groups), {"blocks": f"{BLOCKS}.", "encoder": "sew.", "model": ""})


FAMILY = Family(name="sew", classes=("SEWForCTC",), head=CTC(), anatomy=anatomy)
