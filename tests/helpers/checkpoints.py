"""Models to save, and what they say before that."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from helpers.families import Family, shaken
from trimbre.models.modeling_trimbre import FORMAT

CLIP = np.random.default_rng(0).standard_normal(24_000).astype(np.float32)


def dense_of(family: Family) -> PreTrainedModel:
    torch.manual_seed(0)
    return shaken(family.build())


def logits_of(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    # Of a copy, whose memory is aligned: a loaded model's is the file's, and matrix products round by alignment.
    with torch.no_grad():
        return copy.deepcopy(model).eval()(**inputs).logits


def newer(checkpoint: Path, place: Path) -> Path:
    """A copy that says it's of a format that isn't known yet."""
    shutil.copytree(checkpoint, place)
    config = json.loads((place / "config.json").read_text())
    config["trimbre"]["format"] = FORMAT + 1
    (place / "config.json").write_text(json.dumps(config))
    return place
