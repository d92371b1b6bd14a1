"""Size by closed forms, and the bookkeeping of timing; never a time itself."""

import time

import pytest
import torch
from helpers.families import FAMILIES
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor

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


class Watch:
    """A clock that is advanced by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Silent:
    """A decoding graph that finds no word, and counts for how many utterances."""

    def __init__(self):
        self.count = 0

    def text(self, scores):
        self.count += 1
        return ""


def test_models_take_turns_and_threads_are_put_back():
    """On a machine that gets slower with every repeat."""
    watch, graph, turns = Watch(), Silent(), []

    def taking(name, seconds):
        def compute(module, inputs):
            turns.append((name, torch.get_num_threads()))
            repeat = (len(turns) - 3) // 4  # the first two warm up, and each repeat is of two clips
            watch.now += seconds * (1 + repeat)

        model = mini_parakeet()
        model.register_forward_pre_hook(compute)
        return Recogniser(model, mini_processor())

    before = torch.get_num_threads()
    models = {"a": taking("a", 2.0), "b": taking("b", 1.0)}
    turns.clear()
    found = real_time_factor(models, clips=clips(1.0, 3.0), graph=graph, threads=before + 1, repeats=3, clock=watch)
    assert torch.get_num_threads() == before
    assert {threads for _, threads in turns} == {before + 1} == {found.threads}
    assert "".join(name for name, _ in turns) == "ab" + "abab" + "baba" + "abab"
    assert graph.count == len(turns)
    assert found.audio_seconds == 4
    assert (found.factors["a"].low, found.factors["a"].median, found.factors["a"].high) == (1, 2, 3)
    assert (found.ratios["a"].low, found.ratios["a"].high) == (1, 1)
    assert (found.ratios["b"].low, found.ratios["b"].high) == (0.5, 0.5)


def test_a_real_recogniser_is_timed():
    recogniser = Recogniser(mini_parakeet(), mini_processor())
    found = real_time_factor({"dense": recogniser}, clips=clips(0.5), repeats=2)
    factor = found.factors["dense"]
    assert 0 < factor.low <= factor.median <= factor.high
    assert found.to_json()["ratios"]["dense"] == {"median": 1.0, "low": 1.0, "high": 1.0}


def test_nothing_to_time():
    with pytest.raises(ValueError, match="at least one"):
        real_time_factor({}, clips=clips(1.0))


def test_decoders_are_compared_by_texts_of_one_length():
    family, written = FAMILIES["whisper, English"], []

    def token(module, inputs):
        written[-1] += 1

    models = [family.build(), family.build()]
    for model in models:
        model.model.encoder.register_forward_pre_hook(lambda module, inputs: written.append(0))
        model.proj_out.register_forward_pre_hook(token)
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


@pytest.mark.skipif(clock_for(1) is time.perf_counter, reason="no fine clock of a thread's own time here")
def test_speed_up_is_measured_in_cpu_time_of_the_thread():
    """A model that sleeps computes no more for it: by the clock on the wall it would take a hundred times as long."""
    model = mini_parakeet()
    sleeping = mini_parakeet()
    sleeping.register_forward_pre_hook(lambda module, inputs: time.sleep(0.5))
    found = times_faster(*(Recogniser(one, mini_processor()) for one in (sleeping, model)), seconds=0.5, repeats=3)
    assert found.median > 0.1
