"""Attention while training: product by product where that is faster and fits, and as it was afterwards."""

from types import SimpleNamespace

import pytest
import torch

from trimbre import attention
from trimbre.attention import eager_where_faster


def here(device="cpu", precision="bf16"):
    return SimpleNamespace(device=torch.device(device), mixed_precision=precision)


def test_windows_are_heard_eagerly_in_bfloat16_on_a_cpu_alone(model, monkeypatch):
    before = model.config._attn_implementation
    windows = model.config.is_encoder_decoder
    for where, eager in ((here(), windows), (here(precision="no"), False), (here(device="cuda"), False)):
        with eager_where_faster([model], where):
            assert (model.config._attn_implementation == "eager") == (eager or before == "eager")
        assert model.config._attn_implementation == before
    monkeypatch.setattr(attention, "ROOM", 1000)
    with eager_where_faster([model], here()):
        assert model.config._attn_implementation == before


def test_what_fails_meanwhile_leaves_models_as_they_were(model):
    before = model.config._attn_implementation
    with pytest.raises(KeyboardInterrupt), eager_where_faster([model], here()):
        raise KeyboardInterrupt
    assert model.config._attn_implementation == before
