"""Size by closed forms, and the bookkeeping of timing; never a time itself."""

import time
from itertools import count

import pytest
import torch
from helpers.families import FAMILIES
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor

from trimbre.benchmark import timing as speed
from trimbre.benchmark.timing import clock_for, real_time_factor, seconds_to, times_faster
from trimbre.costs.size import size
from trimbre.models.loading import Recogniser


def test_size_by_hand():
    # One block, d 16, 2 heads of 8, feed-forward 16; 4 channels in the subsampling, 16 mels, 14 labels.
    model = mini_parakeet()
    found = size(model, mini_processor())
    assert found.parameters == sum(tensor.numel() for tensor in model.parameters())
    frames = 126  # 1001 mel frames, 8 to 1
    d, ff, taps = 16, 16, model.config.encoder_config.conv_kernel_size
    heads = 2 * frames**2 * d + frames * (2 * frames - 1) * d  # two products, and one with relative positions
    block = frames * (4 * d * ff + 4 * d * d + 3 * d * d + taps * d) + (2 * frames - 1) * d * d + heads
    front = 9 * 4 * 501 * 8  # 3x3 convolution on (mel frames, mels), halved
    front += (9 * 4 + 4 * 4) * 251 * 4 + (9 * 4 + 4 * 4) * 126 * 2  # depthwise 3x3, then 1x1, twice
    front += frames * 4 * 2 * d
    assert found.macs_per_second == pytest.approx((front + block + frames * d * 14) / 10)


def test_counting_leaves_the_model_alone():
    model = mini_parakeet()
    before = (
        model.config._attn_implementation,
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
    )
    size(model, mini_processor())
    assert model.config._attn_implementation == before[0]
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in model.state_dict().items())


def test_models_take_turns_and_threads_are_put_back(monkeypatch):
    turns, clock = [], iter(range(1000))
    spent = {"a": 2.0, "b": 1.0}

    def timed(name, clip, timer=None):
        turns.append((name, len(clip), torch.get_num_threads()))
        return spent[name] * (1 + next(clock) // 6)  # the machine gets slower with every repeat

    monkeypatch.setattr(speed, "seconds_to", timed)
    graphs = []
    monkeypatch.setattr(speed, "transcriber", lambda model, processor, graph: graphs.append(graph) or processor)
    before = torch.get_num_threads()
    models = {name: Recogniser(torch.nn.Identity(), name) for name in "ab"}
    found = real_time_factor(models, clips=clips(1.0, 3.0), graph="menu", threads=before + 1, repeats=3)
    assert graphs == ["menu", "menu"]
    assert torch.get_num_threads() == before
    assert {threads for *_, threads in turns} == {before + 1} == {found.threads}
    assert "".join(name for name, *_ in turns) == "ab" + "abab" + "baba" + "abab"
    assert found.audio_seconds == 4
    assert (found.ratios["a"].low, found.ratios["a"].high) == (1, 1)
    assert found.ratios["b"].median <= 0.6


def test_a_real_recogniser_is_timed():
    recogniser = Recogniser(mini_parakeet(), mini_processor())
    found = real_time_factor({"dense": recogniser}, clips=clips(0.5), repeats=2)
    factor = found.factors["dense"]
    assert 0 < factor.low <= factor.median <= factor.high
    assert found.to_json()["ratios"]["dense"] == {"median": 1.0, "low": 1.0, "high": 1.0}


def test_nothing_to_time():
    with pytest.raises(ValueError, match="at least one"):
        real_time_factor({}, clips=clips(1.0))


def test_decoders_are_compared_by_texts_of_one_length(monkeypatch):
    family, written = FAMILIES["whisper, English"], []
    models = [family.build(), family.build()]
    usual = type(models[0]).generate

    def noting(self, *args, **more):
        found = usual(self, *args, **more)
        written.append(found.shape[1])
        return found

    monkeypatch.setattr(type(models[0]), "generate", noting)
    before = [model.generation_config.to_json_string() for model in models]
    found = times_faster(*(Recogniser(model, family.processor()) for model in models), seconds=4.0, repeats=1)
    assert found.low <= found.median <= found.high
    assert len(written) == 2 * 2 * 3  # each warms up and is timed, in three windows of the tiny model's 2 s
    assert len(set(written)) == 1
    assert [model.generation_config.to_json_string() for model in models] == before


def test_one_thread_is_timed_by_itself():
    """What sleeps doesn't compute: the time of others isn't counted."""
    clock = clock_for(1)
    slept = seconds_to(lambda clip: time.sleep(0.05), None, clock)
    assert slept < 0.05 or clock is time.perf_counter
    assert clock_for(2) is time.perf_counter


def test_how_much_faster_is_by_the_thread_s_own_time(monkeypatch):
    """A clock that ticks once whenever it's read: each clip takes one tick, whatever the machine does."""
    asked = []
    monkeypatch.setattr(speed, "clock_for", lambda threads: asked.append(threads) or count().__next__)
    recogniser = Recogniser(mini_parakeet(), mini_processor())
    found = times_faster(recogniser, recogniser, seconds=0.5, repeats=3)
    assert asked == [1]
    assert (found.low, found.median, found.high) == (1, 1, 1)
