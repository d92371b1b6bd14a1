"""Recognition runs on the device that the model is on: evaluation, transcription and timing, with the CPU's results."""

import copy

import numpy as np
import pytest
import soundfile
import torch
from helpers.pretend import AwayTensor, pretend_device

from trimbre.benchmark.timing import real_time_factor
from trimbre.evaluation.score import score
from trimbre.inference.long_form import transcribe, transcriber
from trimbre.models.device import device_of
from trimbre.models.loading import Recogniser

pytestmark = pytest.mark.ctc


@pytest.fixture
def away(model):
    """A copy of the model on a device that is not the CPU."""
    with pretend_device() as device, torch.no_grad():
        moved = copy.deepcopy(model).to(device)
        assert device_of(moved) == device
        yield moved


def test_a_model_elsewhere_and_inputs_here_do_not_go_together(away, padded):
    with pytest.raises(RuntimeError, match="tensors on cpu and"):
        away(**padded)


def test_evaluation_runs_there(model, away, processor, noise_corpus):
    here, there = (score(model=one, processor=processor, data=noise_corpus) for one in (model, away))
    assert there.hypotheses == here.hypotheses
    assert there.wer == here.wer


def test_a_long_recording_is_transcribed_there(model, away, processor, tmp_path):
    audio = 0.1 * np.random.default_rng(0).standard_normal(7 * 16_000)
    soundfile.write(tmp_path / "long.wav", audio, 16_000)
    chunks = {"chunk_seconds": 3.0, "overlap_seconds": 1.0}
    here, there = (
        list(transcribe(model=one, processor=processor, files=[tmp_path / "long.wav"], **chunks))
        for one in (model, away)
    )
    assert there == here


def test_scores_for_a_graph_are_brought_back(model, away, processor):
    class Shapes:
        def text(self, scores):
            assert isinstance(scores, np.ndarray)
            return str(scores.shape)

    audio = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert transcriber(away, processor, Shapes())(audio) == transcriber(model, processor, Shapes())(audio)


def test_timing_runs_there_and_says_where(away, processor):
    clip = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    found = real_time_factor({"away": Recogniser(away, processor)}, clips=[clip], repeats=1)
    assert found.to_json()["device"] == str(device_of(away)) != "cpu"
    assert isinstance(next(away.parameters()).data, AwayTensor)
