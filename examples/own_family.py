"""Register a family of models that Trimbre does not cover, and prove that it is cut exactly.

python examples/own_family.py
"""

import random

import torch
from transformers import SEWConfig, SEWForCTC

import trimbre
from trimbre.models.anatomy import Anatomy
from trimbre.models.families.blocks import Branch, groups_of
from trimbre.models.families.kinds import attention, feed_forward
from trimbre.models.heads.ctc import CTC
from trimbre.pruning.equivalence import check_equality, random_cut

PROJECTIONS = [f"{name}_proj.{part}" for name in "qkv" for part in ("weight", "bias")]
FEED_FORWARD = feed_forward("intermediate_dense", "output_dense")


def anatomy(model):
    """What can be cut from a `SEWForCTC`, whose norms follow its branches."""
    branches = (
        Branch("attention", None, "layer_norm", heads),
        Branch("feed_forward", None, "final_layer_norm", lambda module: FEED_FORWARD),
    )
    path = "sew.encoder.layers"
    groups = groups_of(model.sew.encoder.layers, path, branches)
    return Anatomy(tuple(groups), {"blocks": f"{path}.", "encoder": "sew.", "model": ""})


def heads(module):
    """Attention heads, by the sizes that the module has now."""
    return attention(module.head_dim, PROJECTIONS, "out_proj", attributes={"num_heads": 1})


if __name__ == "__main__":
    trimbre.register_family(trimbre.Family(name="sew", classes=("SEWForCTC",), head=CTC(), anatomy=anatomy))
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
    model = SEWForCTC(SEWConfig(**sizes, conv_dim=(32,) * 13, vocab_size=30)).eval()

    sizes = {group.path: group.size for group in anatomy(model).groups}
    kept = {path: range(size // 2) for path, size in sizes.items()}
    small = trimbre.cut(model, trimbre.Plan(sizes, kept))
    print(f"{model.num_parameters():,} -> {small.num_parameters():,} parameters")
    audio = {"input_values": torch.randn(2, 16_000)}
    for plan, values in (random_cut(anatomy(model), random.Random(seed)) for seed in range(4)):
        check_equality(model, trimbre.cut(model, plan, gate_values=values), values, audio)  # raises above 1e-5
    print("masked equals sliced")
