"""Names of devices: what is here, what is not, and whose weights are where."""

import pytest
import torch
from helpers.places import MODEL
from torch import nn

import trimbre
from trimbre.errors import OptionError
from trimbre.models.device import device_of, resolve_device, synchronise

HERE = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def test_auto_is_the_accelerator_where_there_is_one():
    assert resolve_device() == resolve_device("auto") == HERE
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", [one for one in ("cuda", "mps", "xpu") if one != HERE.type])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(OptionError, match=rf"^device='{name}': torch finds only cpu") as refused:
        resolve_device(name)
    assert refused.value.name == "device"


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x"])
def test_what_is_no_device_is_refused_with_those_that_are(name):
    with pytest.raises(OptionError, match="choose one of auto, cpu, cuda, mps"):
        resolve_device(name)


def test_a_model_is_loaded_to_a_device_by_name():
    assert device_of(trimbre.load(MODEL, device="auto").model) == resolve_device("auto")
    with pytest.raises(ValueError, match="device='abacus': choose one of auto"):
        trimbre.load(MODEL, device="abacus")


def test_a_model_is_where_its_weights_are():
    assert device_of(nn.Linear(2, 2, device="meta")) == torch.device("meta")
    assert device_of(nn.Identity()) == torch.device("cpu")
    synchronise(torch.device("cpu"))  # has nothing to wait for
