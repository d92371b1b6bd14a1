"""Real-time factors on the utterances of a set: how many are timed, joined or one by one, and by which decoding."""

import pytest
from helpers.mini_recogniser import mini_parakeet, mini_processor

from trimbre.data.cuts import read_cuts
from trimbre.errors import UserError
from trimbre.inference.graph.build import make_graph
from trimbre.inference.graph.decoder import load_graph
from trimbre.models.checkpoint import save
from trimbre.models.loading import Recogniser
from trimbre.runs.timing import real_time_factors


@pytest.fixture
def recogniser():
    return Recogniser(mini_parakeet(), mini_processor())


def test_all_models_are_timed_by_the_graph_that_is_given(recogniser, noise_corpus, tmp_path):
    place = save(*recogniser, tmp_path / "mini")
    make_graph(model=str(place), transcripts=str(noise_corpus), out=tmp_path / "graph")
    graph = load_graph(tmp_path / "graph", recogniser)
    decode, lengths = graph.text, []

    def noting(scores):
        lengths.append(len(scores))
        return decode(scores)

    graph.text = noting
    timed = real_time_factors({"one": recogniser, "two": recogniser}, data=noise_corpus, clips=2, graph=graph)
    assert len(lengths) > 2 * 2 * timed["utterances"].repeats  # of two models, and of what warms them up
    lengths.clear()
    real_time_factors({"one": recogniser}, data=noise_corpus, clips=1)
    assert not lengths


def test_a_long_recording_is_timed_in_part_and_an_unreadable_one_is_passed_over(recogniser, noise_corpus, monkeypatch):
    monkeypatch.setattr("trimbre.runs.timing.LONGEST", 2.0)
    cuts = list(read_cuts(noise_corpus))
    gone, *others = (cut for cut in cuts if cut.duration > 1)
    gone.recording.sources[0].source = "gone.flac"
    timed = real_time_factors({"one": recogniser}, data=[gone, *others], clips=5)
    assert timed["utterances"].audio_seconds == pytest.approx(2.0, abs=1e-3)
    assert timed["utterances"].clips == 2
    with pytest.raises(UserError, match=r"gone\.flac"):
        real_time_factors({"one": recogniser}, data=[gone], clips=5)


def test_as_many_utterances_are_timed_as_asked(recogniser, noise_corpus):
    timed = real_time_factors({"one": recogniser}, data=noise_corpus, clips=3)
    seconds = sum(cut.duration for cut in list(read_cuts(noise_corpus))[:3])
    assert timed["utterances"].clips == 3
    assert timed["recording"].clips == 1
    assert [one.audio_seconds for one in timed.values()] == pytest.approx([seconds] * 2)
    with pytest.raises(UserError, match="clips=0"):
        real_time_factors({"one": recogniser}, data=noise_corpus, clips=0)
