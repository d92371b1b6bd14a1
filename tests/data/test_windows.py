"""Windows: as full as they get, every utterance in its turn, of one language, the same however often they're begun."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.families import FAMILIES
from helpers.tones import corpus_of, tone
from lhotse import CutSet

from trimbre.config import AugmentConfig, BatchConfig
from trimbre.data.batches import Batch, evaluation_batches, training_batches
from trimbre.data.check import check_training_data
from trimbre.data.cuts import cut_of, read_cuts
from trimbre.data.windows import ALONE, SILENCE, joined, packed, pieces, window_batches
from trimbre.errors import UserError
from trimbre.models.inputs import features_of, window_of

WINDOW = 30
PLAIN = BatchConfig(max_duration=4.0, augment=AugmentConfig.none())
SHAKEN = BatchConfig(max_duration=4.0)


def cuts(*lengths: float, texts: bool = True, language: str | None = None) -> list:
    return [
        cut_of(
            Path(f"{n}.flac"), id=str(n), text="a" if texts else None, samples=int(16_000 * length), language=language
        )
        for n, length in enumerate(lengths)
    ]


def random_lengths(count: int, longest: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.5, longest, count).round(3)


@pytest.mark.parametrize(("longest", "least"), [(8.0, 0.97), (30.0, 0.75)])
def test_windows_are_full_and_hold_every_cut_once(longest, least):
    given = cuts(*random_lengths(600, longest))
    windows = list(packed(given, window=WINDOW))
    lengths = [sum(cut.duration for cut in inside) + SILENCE * (len(inside) - 1) for inside in windows]
    assert max(lengths) <= WINDOW + 1e-6
    alone = lengths[ALONE - 1 :: ALONE]
    assert all(len(inside) == 1 for inside in windows[ALONE - 1 :: ALONE])
    assert (sum(lengths) - sum(alone)) / (len(lengths) - len(alone)) >= least * WINDOW
    held = Counter(cut.id for inside in windows for cut in inside)
    assert set(held.values()) == {1}
    assert len(held) > 500  # the last wait for others to fill their windows up


@pytest.mark.parametrize("others", [{"language": "en"}, {"texts": False}])
def test_what_differs_in_language_or_lacks_a_transcript_does_not_share_windows(others):
    given = [cut for pair in zip(cuts(*[3.0] * 200, **others), cuts(*[4.0] * 200), strict=True) for cut in pair]
    for inside in packed(given, window=WINDOW):
        assert len({cut.duration for cut in inside}) == 1


def test_epochs_follow_each_other_and_ranks_share_them_out():
    given = CutSet.from_cuts(cuts(*random_lengths(100, 8.0)))
    how = {"window": WINDOW, "windows": 2, "transcripts": True, "world": 2}
    shares = [list(islice(window_batches(given, seed=1, rank=rank, **how), 20)) for rank in (0, 1)]
    together = [w for pair in zip(*shares, strict=True) for batch in pair for w in batch]
    alone = window_batches(given, seed=1, rank=0, window=WINDOW, windows=1, transcripts=True, world=1)
    assert [[c.id for c in w] for w in together] == [[c.id for c in w] for (w,) in islice(alone, 80)]
    seen = Counter(cut.id for window in together for cut in window)
    assert max(seen.values()) - min(seen.values()) <= 1 + 1
    other = next(window_batches(given, seed=2, rank=0, **how))
    assert [c.id for c in other[0]] != [c.id for c in together[0]]


def test_what_is_longer_than_a_window_is_cut_only_where_nobody_wrote_it_down():
    long, short = cuts(70.0, 5.0, texts=False), cuts(70.0, 5.0)
    parts = list(pieces(long, window=WINDOW, transcripts=True))
    assert [part.duration for part in parts] == pytest.approx([70 / 3] * 3 + [5.0], abs=1e-3)
    assert [part.start for part in parts[:3]] == pytest.approx([0, 70 / 3, 140 / 3], abs=1e-3)
    assert len({part.id for part in parts}) == 4
    assert [part.id for part in pieces(short, window=WINDOW, transcripts=True)] == ["1"]
    assert len(list(pieces(short, window=WINDOW, transcripts=False))) == 4
    long = CutSet.from_cuts(short[:1])
    batches = window_batches(long, window=WINDOW, windows=1, transcripts=True, seed=0, rank=0, world=1)
    with pytest.raises(UserError, match=r"text='transcripts': .* at most 30 s .* let the teacher write the text"):
        next(batches)


def test_clips_that_grew_too_long_are_taken_as_they_were_recorded():
    recorded = [tone(200, 0.4), tone(400, 0.5)]
    silence = int(SILENCE * 16_000)
    fits = joined(recorded, recorded, window=30_000)
    assert len(fits) == 6400 + silence + 8000
    assert not fits[6400 : 6400 + silence].any()
    grown = [tone(200, 0.41), tone(400, 0.9)]
    both = joined(grown, recorded, window=30_000)
    assert len(both) == 6560 + silence + 14_400  # there is room
    tight = joined(grown, recorded, window=6560 + silence + 8000)
    np.testing.assert_array_equal(tight, np.concatenate([grown[0], np.zeros(silence, np.float32), recorded[1]]))


@pytest.fixture(scope="module")
def processor():
    return FAMILIES["whisper, English"].processor()  # its window is 2 s long


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    clips = [tone(100 + 40 * n, length) for n, length in enumerate(random_lengths(16, 0.9))]
    texts = [f"Word {n}." for n in range(len(clips))]
    return corpus_of(tmp_path_factory.mktemp("tones"), clips, texts)


def same(one: Batch, other: Batch) -> bool:
    return one.ids == other.ids and torch.equal(one.inputs["input_features"], other.inputs["input_features"])


def test_a_batch_is_as_many_windows_as_it_has_room_for(data, processor):
    texts = {cut.id: cut.supervisions[0].text for cut in read_cuts(data)}
    audio = {cut.id: cut.load_audio()[0] for cut in read_cuts(data)}
    for batch in islice(training_batches(read_cuts(data), processor=processor, options=PLAIN, seed=0), 5):
        assert batch.inputs["input_features"].shape == (2, 80, 200)
        assert batch.labels is None
        assert batch.texts == [" ".join(texts[id] for id in ids.split()) for ids in batch.ids]
        silence = np.zeros(int(SILENCE * 16_000), np.float32)
        for row, ids in zip(batch.inputs["input_features"], batch.ids, strict=True):
            first, *others = (audio[id] for id in ids.split())
            sound = np.concatenate([first, *(part for clip in others for part in (silence, clip))])
            assert torch.allclose(row, features_of([sound], processor)["input_features"][0], atol=1e-5)


@pytest.mark.parametrize("start", [1, 6])
def test_a_stream_that_starts_later_goes_on_where_it_would_have_been(data, processor, start):
    def stream(**more):
        return training_batches(read_cuts(data), processor=processor, options=SHAKEN, seed=3, **more)

    whole = list(islice(stream(), start + 3))
    assert all(map(same, whole[start:], islice(stream(start=start), 3)))
    assert not any(map(same, whole, islice(stream(rank=1, world=2), start + 3)))


def test_features_are_masked_where_there_is_sound(data, processor):
    def features(**masks):
        options = replace(PLAIN, augment=replace(AugmentConfig.none(), **masks))
        return next(training_batches(read_cuts(data), processor=processor, options=options, seed=0)).inputs[
            "input_features"
        ]

    plain, timed, toned = features(), features(time_masks=1), features(mel_masks=1)
    assert any((row == 0).all(0).any() for row in timed)  # (mels, frames)
    assert any((row == 0).any(1).any() for row in toned)
    assert not (plain == 0).all(1).any()


def test_bad_clips_leave_the_others_of_their_window(tmp_path, processor):
    from trimbre.data.unreadable import UnreadableClips

    folder = corpus_of(tmp_path, [tone(200, 0.5)] * 3, ["a", "b", "c"])
    (folder / "audio/1.flac").write_bytes(b"this is no sound")
    options = replace(PLAIN, max_duration=2.0)
    tolerance = UnreadableClips(100, "mine")
    stream = training_batches(read_cuts(folder), processor=processor, options=options, seed=0, tolerance=tolerance)
    seen = [next(stream) for _ in range(8)]
    assert {text for batch in seen for text in batch.texts[0].split()} == {"a", "c"}
    assert list(tolerance.unreadable) == ["1"]


def test_long_transcripts_are_counted_and_texts_can_be_left_to_the_teacher(tmp_path, processor):
    folder = corpus_of(tmp_path, [tone(200, 0.5), tone(300, 2.5)], ["a", "b"])
    how = {"name": "mine", "processor": processor, "normalize": "none"}
    assert check_training_data(read_cuts(folder), **how).too_long == 1
    assert check_training_data(read_cuts(folder), transcripts=False, **how).too_long == 0
    batches = training_batches(read_cuts(folder), processor=processor, options=PLAIN, seed=0, transcripts=False)
    assert next(batches).texts == [None, None]
    assert window_of(processor) == 2


def test_whole_windows_are_counted_in_evaluation(tmp_path, processor):
    folder = corpus_of(tmp_path, [tone(100 + 50 * number, 0.5) for number in range(5)], list("abcde"))
    batches = list(evaluation_batches(read_cuts(folder), processor=processor, max_seconds=4.0))
    assert [len(batch.ids) for batch in batches] == [2, 2, 1]  # a window of 2 s each, however short the clip
