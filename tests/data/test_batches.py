"""Batches: every utterance once per epoch, the same for the same seed, at any sampling rate."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import soundfile
import torch
from helpers.mini_recogniser import clips, mini_processor
from helpers.tones import corpus_of, tone

from trimbre.config import AugmentConfig, BatchConfig
from trimbre.data.audio import load_cut
from trimbre.data.batches import Batch, collate, evaluation_batches, training_batches
from trimbre.data.check import check_training_data
from trimbre.data.cuts import read_cuts
from trimbre.data.language import Languages
from trimbre.data.text import labels_of
from trimbre.data.unreadable import UnreadableClips
from trimbre.errors import UserError

# Workers that load audio are forked by torch.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

PLAIN = BatchConfig(max_duration=2.0, buckets=3, augment=AugmentConfig.none())
SHAKEN = BatchConfig(max_duration=2.0, buckets=3)
COUNT = 24


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Noise of 0.2 to 0.9 s, with transcripts of as many words as its number says."""
    lengths = np.random.default_rng(0).uniform(0.2, 0.9, COUNT)
    texts = [" ".join(["Bad"] * (1 + number % 4)) for number in range(COUNT)]
    return corpus_of(tmp_path_factory.mktemp("noise"), clips(*lengths), texts)


def stream(data, options=PLAIN, *, seed=0, **place) -> Iterator[Batch]:
    return training_batches(read_cuts(data), processor=mini_processor(), options=options, seed=seed, **place)


def epoch(batches: Iterator[Batch], size: int = COUNT) -> list[Batch]:
    """As many batches as it takes to see `size` utterances."""
    taken: list[Batch] = []
    while sum(len(batch.ids) for batch in taken) < size:
        taken.append(next(batches))
    return taken


def ids(batches: list[Batch]) -> list[str]:
    return [id for batch in batches for id in batch.ids]


def same(one: Batch, other: Batch) -> bool:
    """Bit for bit."""
    tensors = [(one.inputs[name], other.inputs[name]) for name in one.inputs] + [(one.labels, other.labels)]
    return one.ids == other.ids and all(torch.equal(*pair) for pair in tensors)


@pytest.mark.parametrize("buckets", [1, 3, COUNT, 2 * COUNT])
@pytest.mark.parametrize("seconds", [1.0, 2.0, 60.0])
def test_every_utterance_comes_once_an_epoch_in_batches_that_are_not_too_long(data, seconds, buckets):
    batches = stream(data, BatchConfig(max_duration=seconds, buckets=buckets, augment=AugmentConfig.none()))
    length = {cut.id: cut.duration for cut in read_cuts(data)}
    epochs = [epoch(batches) for _ in range(3)]
    assert [sorted(ids(each), key=int) for each in epochs] == [[str(number) for number in range(COUNT)]] * 3
    for batch in epochs[0] + epochs[1]:
        lengths = [length[id] for id in batch.ids]
        assert batch.seconds == pytest.approx(sum(lengths))
        # There was room, padding included, for one more that is no longer than those before it.
        assert len(lengths) * max(lengths[:-1], default=0) <= seconds
        assert batch.seconds < seconds + lengths[-1]
    if len(epochs[0]) > 1:
        assert ids(epochs[0]) != ids(epochs[1]) != ids(epochs[2])


def test_a_batch_holds_utterances_of_similar_length(data):
    length = {cut.id: cut.duration for cut in read_cuts(data)}

    def padding(buckets: int) -> float:
        options = BatchConfig(max_duration=2.0, buckets=buckets, augment=AugmentConfig.none())
        batches = [[length[id] for id in batch.ids] for batch in epoch(stream(data, options))]
        return sum(len(batch) * max(batch) - sum(batch) for batch in batches)

    assert padding(4) < 0.6 * padding(1)


def test_a_seed_gives_the_same_batches_bit_for_bit(data):
    once, again, other = (list(islice(stream(data, SHAKEN, seed=seed), 20)) for seed in (1, 1, 2))
    assert all(map(same, once, again))
    assert not any(map(same, once, other))
    assert ids(once) != ids(other)


@pytest.mark.parametrize("augment", [{"noise": 1}, {"mel_masks": 9}])
def test_an_epoch_augments_sound_and_features_anew(tmp_path, augment):
    corpus_of(tmp_path, clips(0.5), ["a"])
    options = BatchConfig(augment=replace(AugmentConfig.none(), **augment))
    first, second = (batch.inputs["input_features"] for batch in islice(stream(tmp_path, options), 2))
    assert first.shape != second.shape or not torch.equal(first, second)


@pytest.mark.parametrize("start", [1, 3, 17])
def test_a_stream_that_starts_later_goes_on_where_it_would_have_been(data, start):
    whole = list(islice(stream(data, SHAKEN), start + 4))
    assert sum(len(batch.ids) for batch in whole) > COUNT or start < 17
    resumed = list(islice(stream(data, SHAKEN, start=start), 4))
    assert all(map(same, whole[start:], resumed))


def test_passing_over_batches_reads_no_audio(data, monkeypatch):
    read = []
    monkeypatch.setattr("trimbre.data.batches.load_cut", lambda cut, rate: read.append(cut.id) or load_cut(cut))
    batch = next(stream(data, start=50))
    assert read == list(batch.ids)


@pytest.mark.parametrize("start", [0, 5])
def test_workers_change_nothing(data, start):
    options = BatchConfig(max_duration=2.0, buckets=3, workers=2)
    alone = list(islice(stream(data, SHAKEN, start=start), 12))
    helped = list(islice(stream(data, options, start=start), 12))
    assert all(map(same, alone, helped))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_draws_nothing_from_the_numbers_that_a_step_goes_by(data, workers):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(stream(data, replace(PLAIN, workers=workers)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seconds", [1.0, 2.0, 60.0])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_out_every_epoch(data, seconds, world):
    options = BatchConfig(max_duration=seconds, buckets=3, augment=AugmentConfig.none())
    streams = [stream(data, options, rank=rank, world=world) for rank in range(world)]
    for _ in range(2):
        seen: list[str] = []
        repeated: list[str] = []
        while len(seen) < COUNT:
            for batches in streams:
                found = next(batches).ids
                assert found
                seen += [id for id in found if "dup" not in id]
                repeated += [id for id in found if "dup" in id]
        assert sorted(seen, key=int) == [str(number) for number in range(COUNT)]
        # Repeated is only what keeps the others busy while one has the last utterance.
        assert len(repeated) < world


def test_ranks_draw_their_own_augmentation(tmp_path):
    # Of one utterance, every rank gets a copy.
    corpus_of(tmp_path, clips(0.5), ["a"])
    one, other = (next(stream(tmp_path, SHAKEN, rank=rank, world=2)).inputs["input_features"] for rank in range(2))
    assert one.shape != other.shape or not torch.equal(one, other)


def test_labels_spell_the_transcripts_and_are_padded(data):
    tokenizer = mini_processor().tokenizer
    for batch in epoch(stream(data)):
        for row, text in zip(batch.labels, batch.texts, strict=True):
            spelled = row[row != -100]
            assert tokenizer.decode(spelled, group_tokens=False) == text.lower()
            assert (row[len(spelled) :] == -100).all()
        assert (batch.labels != -100).any(0).all()  # no wider than the longest


def test_a_missing_transcript_leaves_the_batch_without_labels():
    audio = clips(0.3, 0.2)
    batch = collate(audio, ["abba", None], ["a", "b"], processor=mini_processor(), normalize="basic")
    assert batch.labels is None
    assert batch.texts == ("abba", None)
    silent = collate(audio, ["abba", ""], ["a", "b"], processor=mini_processor(), normalize="basic")
    assert (silent.labels[1] == -100).all()
    moved = batch.to("cpu")
    assert (moved.labels, moved.ids, moved.seconds) == (None, ("a", "b"), 0.5)


def test_evaluation_takes_every_utterance_once_without_augmentation(data):
    cuts = {cut.id: cut for cut in read_cuts(data)}
    batches = list(evaluation_batches(read_cuts(data), processor=mini_processor(), max_seconds=2.0))
    assert sorted(ids(batches), key=int) == list(cuts)
    durations = [cuts[id].duration for id in ids(batches)]
    assert durations == sorted(durations, reverse=True)
    for batch in batches:
        assert len(batch.ids) * cuts[batch.ids[0]].duration <= 2.0
        plain = [load_cut(cuts[id]) for id in batch.ids]
        assert same(batch, collate(plain, batch.texts, batch.ids, processor=mini_processor(), normalize="basic"))
    # One that is longer than a batch may be is evaluated all the same.
    alone = evaluation_batches(read_cuts(data), processor=mini_processor(), max_seconds=0.1)
    assert [len(batch.ids) for batch in alone] == [1] * COUNT


def test_clips_that_may_not_be_padded_share_a_batch_with_their_equals(tmp_path):
    """By the samples that are there: a manifest may state equal lengths for files that differ a little."""
    sounds = [np.ones(size, dtype=np.float32) / 9 for size in (8000, 4800, 8000, 8000 - 16)]
    folder = corpus_of(tmp_path, sounds, list("abab"))
    cuts = list(read_cuts(folder))
    cuts[3].duration = cuts[3].recording.duration = cuts[0].duration
    cuts[3].recording.num_samples = 8000
    batches = list(evaluation_batches(cuts, processor=mini_processor(), padded=False))
    assert sorted(tuple(batch.positions) for batch in batches) == [(0, 2), (1,), (3,)]
    assert all(batch.ids == tuple(cuts[position].id for position in batch.positions) for batch in batches)
    together = list(evaluation_batches(cuts, processor=mini_processor()))
    assert [tuple(batch.positions) for batch in together] == [(0, 2, 3, 1)]


def test_evaluation_leaves_out_what_cannot_be_read_as_training_does(tmp_path):
    folder = corpus_of(tmp_path, clips(0.3, 0.3, 0.3), ["a", "b", "a"])
    (folder / "audio/1.flac").write_bytes(b"this is no sound")
    tolerance = UnreadableClips(100, "mine")
    (batch,) = evaluation_batches(read_cuts(folder), processor=mini_processor(), tolerance=tolerance)
    assert (batch.ids, batch.positions, list(tolerance.unreadable)) == (("0", "2"), (0, 2), ["1"])
    with pytest.raises(UserError, match=r"^cannot read the audio of 1 "):
        list(evaluation_batches(read_cuts(folder), processor=mini_processor()))


def test_labels_are_spelled_in_the_language_of_each_utterance(tmp_path):
    cuts = list(read_cuts(corpus_of(tmp_path, clips(0.5, 0.4, 0.3), ["8", "8", "8"])))
    for cut, language in zip(cuts, ("de", None, "it"), strict=True):
        cut.supervisions[0].language = language
    languages = Languages(stated="fr")
    made = {"processor": mini_processor(), "languages": languages}
    options = BatchConfig(max_duration=60, buckets=1, augment=AugmentConfig.none())
    for batch in (
        next(training_batches(read_cuts(cuts), options=options, seed=0, **made)),
        *evaluation_batches(cuts, **made),
    ):
        assert dict(zip(batch.ids, batch.languages, strict=True)) == {"0": "de", "1": "fr", "2": "it"}
        for row, code in zip(batch.labels, batch.languages, strict=True):
            words = {"de": "acht", "fr": "huit", "it": "otto"}[code]
            assert row[row != -100].tolist() == labels_of(words, processor=mini_processor(), normalize="none")


def test_other_rates_and_channels_are_read_as_16_khz_mono(tmp_path):
    # Only the first of four channels sounds: the mean of all is a quarter of it.
    for rate in (8000, 44_100):
        sound = np.stack([tone(440, 0.5, rate), *np.zeros((3, rate // 2), dtype=np.float32)], axis=1)
        soundfile.write(tmp_path / f"{rate}.wav", sound, rate, subtype="FLOAT")
    (tmp_path / "metadata.csv").write_text("file_name,text\n8000.wav,a\n44100.wav,b\n")
    inner = slice(400, -400)  # a resampler rings at the ends
    for cut in read_cuts(tmp_path):
        clip = load_cut(cut)
        assert clip.shape == (8000,)
        np.testing.assert_allclose(clip[inner], tone(440, 0.5, level=0.125)[inner], atol=1e-3)
    (batch,) = evaluation_batches(read_cuts(tmp_path), processor=mini_processor())
    assert batch.seconds == 1.0
    trained = epoch(stream(tmp_path), 2)  # an AudioFolder is trained on like a manifest
    assert sum(batch.seconds for batch in trained) == 1.0


@pytest.mark.parametrize("workers", [0, 2])
def test_audio_that_cannot_be_read_is_named(tmp_path, workers):
    folder = corpus_of(tmp_path, clips(0.3, 0.3), ["a", "b"])
    spoiled = folder / "audio/1.flac"
    options = BatchConfig(max_duration=60, buckets=1, workers=workers, augment=AugmentConfig.none())
    for content in (b"", b"this is no sound", (folder / "audio/0.flac").read_bytes()[:3000]):
        spoiled.write_bytes(content)
        with pytest.raises(UserError, match=f"^cannot read the audio of 1 .*{spoiled}") as refused:
            next(stream(folder, options))
        assert "\n" not in str(refused.value)
    silence = np.full(4800, np.nan)
    soundfile.write(spoiled, silence, 16_000, format="WAV", subtype="FLOAT")
    with pytest.raises(UserError, match=f"^{spoiled} has samples that are not finite"):
        next(stream(folder, options))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_few_bad_clips_in_a_large_corpus_are_left_out_and_listed(tmp_path, workers):
    folder = corpus_of(tmp_path, clips(0.3, 0.3, 0.3), ["a", "b", "a"])
    bad = folder / "audio/1.flac"
    bad.write_bytes(b"this is no sound")
    options = BatchConfig(max_duration=60, buckets=1, workers=workers, augment=AugmentConfig.none())
    tolerance = UnreadableClips(100, "mine")  # of so many utterances one is a hundredth
    batch = next(stream(folder, options, tolerance=tolerance))
    assert sorted(batch.ids) == ["0", "2"]
    assert batch.inputs["input_features"].shape[0] == len(batch.labels) == len(batch.texts) == 2
    assert list(tolerance.unreadable) == ["1"]
    with pytest.raises(UserError, match=f"^cannot read the audio of 1 .*{bad}"):
        next(stream(folder, options, tolerance=UnreadableClips(99, "mine")))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_of_unreadable_clips_is_replaced_by_a_readable_one(tmp_path, workers):
    """As long recordings are, which have batches to themselves."""
    folder = corpus_of(tmp_path, clips(0.9, 0.3, 0.3), ["a", "b", "a"])
    (folder / "audio/0.flac").write_bytes(b"this is no sound")
    options = BatchConfig(max_duration=1.0, buckets=2, workers=workers, augment=AugmentConfig.none())
    tolerance = UnreadableClips(100, "mine")
    batches = stream(folder, options, tolerance=tolerance)
    seen = [next(batches) for _ in range(6)]
    (instead,) = [batch for batch in seen[:2] if "0" in batch.unreadable]  # of the first epoch
    assert instead.ids == ("1",)
    assert instead.labels is not None
    assert all(batch.ids for batch in seen)
    assert list(tolerance.unreadable) == ["0"]
    again = stream(folder, options, start=2, tolerance=UnreadableClips(100, "mine"))
    assert [next(again).ids for _ in range(4)] == [batch.ids for batch in seen[2:]]  # resuming counts it too


def test_what_was_left_out_is_known_to_the_run_that_goes_on(tmp_path):
    kept = tmp_path / "unreadable.json"
    UnreadableClips(1000, "mine", kept=kept).note({"a": "no sound in a.wav"})
    resumed = UnreadableClips(1000, "mine", kept=kept)
    resumed.note({"b": "no sound in b.wav"})
    assert UnreadableClips(1000, "mine", kept=kept).unreadable == {"a": "no sound in a.wav", "b": "no sound in b.wav"}


def test_many_bad_clips_are_an_error_that_counts_them():
    tolerance = UnreadableClips(250, "mine")
    tolerance.note({"a": "no sound in a.wav"})
    tolerance.note({"b": "no sound in b.wav", "a": "no sound in a.wav"})  # read again in a later epoch
    with pytest.raises(UserError, match=r"^no sound in a.wav \(3 of 250 utterances of mine so far\)$"):
        tolerance.note({"c": "no sound in c.wav"})


def test_long_utterances_are_cut_or_left_out_and_counted(tmp_path):
    """With a transcript they are left out; without one the teacher teaches on equal pieces of them."""
    long = clips(2.6)[0]
    folder = corpus_of(tmp_path, [*clips(0.4, 0.5), long, long[: round(2.2 * 16_000)]], ["a", "b", "a bad", None])
    options = BatchConfig(max_duration=1.0, longest=1.0, buckets=1, augment=AugmentConfig.none())
    how = {"name": "mine", "processor": mini_processor(), "normalize": "basic"}
    assert check_training_data(read_cuts(folder), **how).too_long == 0
    found = check_training_data(read_cuts(folder), **how, longest=1.0)
    assert (found.utterances, found.transcribed, found.too_long) == (4, 3, 1)
    seen = epoch(stream(folder, options), 5)
    assert sorted(ids(seen)) == ["0", "1", "3-0", "3-1", "3-2"]
    assert max(batch.inputs["input_features"].shape[1] for batch in seen) <= 101  # frames of 10 ms
    assert sum(batch.seconds for batch in seen) == pytest.approx(0.4 + 0.5 + 2.2, abs=1e-3)
    assert all((batch.labels is None) == (None in batch.texts) for batch in seen)
    whole = ids(epoch(stream(folder, BatchConfig(max_duration=9.0, buckets=1, augment=AugmentConfig.none())), 4))
    assert sorted(whole) == ["0", "1", "2", "3"]
    with pytest.raises(UserError, match=r"^longest=0.3: every utterance of mine is longer"):
        check_training_data(read_cuts(folder).subset(first=3), **how, longest=0.3)
    with pytest.raises(UserError, match="the training data hold no utterance of at most 1 s"):
        next(stream(corpus_of(tmp_path / "long", [long], ["a"]), options))


def test_nothing_to_train_on_is_refused(tmp_path):
    corpus_of(tmp_path, [], [])
    with pytest.raises(UserError, match="the training data hold no utterance: check the manifest"):
        next(stream(tmp_path))
    assert list(evaluation_batches(read_cuts(tmp_path), processor=mini_processor())) == []


def test_empty_transcripts_give_a_label_of_padding():
    batch = collate(clips(0.5, 0.3), ["", ""], ["a", "b"], processor=mini_processor(), normalize="basic")
    assert batch.labels.tolist() == [[-100], [-100]]
