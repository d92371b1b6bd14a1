"""Make a Conformer deeper without changing what it computes, so that training goes on from where it is.

`python recipes/teacher/grow.py models/telephone-en --out runs/grown` follows every block with another one.

A new block adds nothing at first: the output projections of its four branches are zero, and it takes over the final
normalisation of the block before it, which keeps a plain one. Normalising what is normalised changes nothing, so the
logits stay as they are (net2net, Chen et al. 2016, for blocks that end in a LayerNorm).
"""

import argparse
import copy
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from trimbre.models.checkpoint import save
from trimbre.models.loading import load

RECORD = "train.json"


@torch.no_grad()
def grow(model: PreTrainedModel, *, follow: list[int] | None = None) -> PreTrainedModel:
    """A copy of a ParakeetForCTC with more blocks and the same outputs, (batch, time, vocabulary) in eval mode.

    Args:
        follow: indices of the blocks that a new one follows; every block by default.

    Raises:
        ValueError: there is no block of an index in `follow`.
    """
    grown = copy.deepcopy(model)
    blocks = list(grown.encoder.layers)
    chosen = range(len(blocks)) if follow is None else follow
    if wrong := [index for index in chosen if not 0 <= index < len(blocks)]:
        raise ValueError(f"follow={wrong}: the model has blocks 0 to {len(blocks) - 1}")
    stack: list[nn.Module] = []
    for index, block in enumerate(blocks):
        stack.append(block)
        if index in chosen:
            stack.append(_neutral(block))
            nn.init.ones_(block.norm_out.weight)
            nn.init.zeros_(block.norm_out.bias)
    for index, block in enumerate(stack):
        block.self_attn.layer_idx = index
    grown.encoder.layers = nn.ModuleList(stack)
    grown.config.encoder_config.num_hidden_layers = len(stack)
    return grown


def _neutral(block: nn.Module) -> nn.Module:
    """A copy whose branches add nothing, with the block's own final normalisation."""
    new = copy.deepcopy(block)
    for last in (new.feed_forward1.linear2, new.self_attn.o_proj, new.conv.pointwise_conv2, new.feed_forward2.linear2):
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    return new


def main() -> None:
    """Write the deeper recogniser, with the record of how the given one was trained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--follow", type=int, nargs="+", metavar="BLOCK", help="blocks that get a new one; all of them")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    model, processor = load(asked.model)
    try:
        grown = grow(model, follow=asked.follow)
    except ValueError as error:
        parser.error(str(error))
    record = asked.model / RECORD
    save(grown, processor, asked.out, extra={RECORD: record.read_text()} if record.is_file() else None)
    blocks, parameters = len(grown.encoder.layers), sum(p.numel() for p in grown.parameters())
    print(f"{asked.out}: {blocks} blocks, {parameters:,} parameters")


if __name__ == "__main__":
    main()
