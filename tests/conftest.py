"""Fixtures: tiny random models of every family, and what to feed them."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.families import FAMILIES, Family, shaken
from helpers.forks import Forks
from torch import Tensor
from transformers import (
    PreTrainedModel,
    ProcessorMixin,
)

from trimbre.data.corpus import Utterance, write_corpus
from trimbre.models.anatomy import Anatomy
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.inputs import features_of

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--family", help="the only family of models to test, by the start of its name in FAMILIES")


TOGETHER = ("test_without_trimbre.py",)
"""Files whose tests of all families share what takes long to make."""


WRITERS = ("whisper", "moonshine", "transducer")
"""How the names of families with a decoder begin."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let one process run the tests of a file and a family, which share what takes long to make."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFileAndFamily(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            family = next((name for name in FAMILIES if name in nodeid), "")
            return file if file.endswith(TOGETHER) else f"{file} {family}"

    return ByFileAndFamily(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out families without a CTC head of what is marked `ctc`, and those that `--family` does not name.

    What is marked `once` does not depend on the family: it is run with the first alone.
    """
    only = config.getoption("--family") or ""

    def fits(item: Any) -> bool:
        marked = item.get_closest_marker("family")
        family = item.callspec.params.get("family") if hasattr(item, "callspec") else None
        name = family or (marked.args[0] if marked else only)
        if family and item.get_closest_marker("once") and family != next(iter(FAMILIES)):
            return False
        return name.startswith(only) and not (name.startswith(WRITERS) and item.get_closest_marker("ctc"))

    items[:] = filter(fits, items)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Runs functions in processes of their own."""
    forks = Forks(tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()


@pytest.fixture(params=FAMILIES, scope="session")
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture
def model(family: Family) -> PreTrainedModel:
    torch.manual_seed(0)
    return shaken(family.build())


@pytest.fixture
def processor(family: Family) -> ProcessorMixin:
    return family.processor()


@pytest.fixture
def anatomy(model: PreTrainedModel) -> Anatomy:
    return anatomy_of(model)


@pytest.fixture
def padded(model: PreTrainedModel, processor: ProcessorMixin) -> dict[str, Tensor]:
    """Inputs of three clips of unequal length, the last the longest; a decoder reads texts of as unequal ones."""
    noise = np.random.default_rng(0)
    clips = [noise.standard_normal(samples).astype(np.float32) for samples in (9_000, 16_000, 24_000)]
    inputs = head_of(model).example_inputs(model, features_of(clips, processor), 7)
    if head_of(model).reads_text:
        inputs["decoder_attention_mask"] = (torch.arange(7) < torch.tensor([[3], [5], [7]])).long()
    return inputs


@pytest.fixture(scope="session")
def noise_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 short clips of noise with transcripts of letters: enough to train on, nothing to learn from."""
    noise, draw = np.random.default_rng(5), random.Random(5)
    utterances = [
        Utterance(
            f"noise-{number:02d}",
            (noise.standard_normal(draw.randint(9_000, 24_000)) * 0.1).astype(np.float32),
            " ".join(draw.choice(["a", "bad", "cab", "ace", "bee"]) for _ in range(2)),
            None,
        )
        for number in range(24)
    ]
    out = tmp_path_factory.mktemp("corpora") / "noise"
    write_corpus(utterances, out, source="noise", licence="none")
    return out
