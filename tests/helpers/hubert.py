"""HuBERT as a user would register it: its blocks, and the channels between the convolutions of its front end."""

from typing import Any

import torch
from transformers import HubertConfig, HubertForCTC

from trimbre import Family
from trimbre.models.anatomy import Anatomy
from trimbre.models.families.blocks import Branch, channel_group, groups_of
from trimbre.models.families.kinds import attention, channels, feed_forward
from trimbre.models.heads.ctc import CTC

FRONT, BLOCKS = "hubert.feature_extractor.conv_layers", "hubert.encoder.layers"
PROJECTIONS = [f"{name}_proj.{part}" for name in "qkv" for part in ("weight", "bias")]


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `HubertForCTC` with pre-norm blocks and a group-normalised front end."""
    convolutions = len(model.hubert.feature_extractor.conv_layers)
    front = [
        channel_group(
            model,
            f"{FRONT}.{first}-{first + 1}",
            channels(
                f"channels-{first}",
                f"{first}.conv",
                f"{first + 1}.conv",
                between=(f"{first}.layer_norm",) if first == 0 else (),
            ),
        )
        for first in range(convolutions - 1)
    ]
    branches = (
        Branch("attention", "layer_norm", "final_layer_norm", lambda m: attention(m.head_dim, PROJECTIONS, "out_proj")),
        Branch(
            "feed_forward",
            "final_layer_norm",
            None,
            lambda module: feed_forward("intermediate_dense", "output_dense"),
        ),
    )
    blocks = groups_of(model.hubert.encoder.layers, BLOCKS, branches, end="hubert.encoder.layer_norm")
    scopes = {"blocks": f"{BLOCKS}.", "front-end": f"{FRONT}.", "encoder": "hubert.", "model": ""}
    return Anatomy((*front, *blocks), scopes)


FAMILY = Family(name="hubert", classes=("HubertForCTC",), head=CTC(), anatomy=anatomy)


def tiny_hubert() -> HubertForCTC:
    torch.manual_seed(0)
    return HubertForCTC(
        HubertConfig(
            vocab_size=30,
            pad_token_id=29,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            conv_dim=(8, 12, 8),
            conv_kernel=(10, 8, 4),
            conv_stride=(10, 8, 4),
            conv_bias=True,
            feat_extract_norm="group",
            do_stable_layer_norm=True,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            layerdrop=0.0,
            apply_spec_augment=False,
        )
    )
