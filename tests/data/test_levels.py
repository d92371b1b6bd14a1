"""Scale and channels: right values of files that hold the same sound in other forms."""

import re

import numpy as np
import pytest
import soundfile
from helpers.tones import encode, level, tone
from lhotse import Recording
from lhotse.audio import AudioSource
from lhotse.cut import MonoCut, MultiCut

from trimbre.data.audio import load_cut, read_audio, recording_of
from trimbre.data.levels import Levels
from trimbre.errors import UserError

SOUND = tone(440, 1.0)
OTHER = tone(700, 1.0)


def whole(path):
    return recording_of(path, id="it").to_cut()


def both(path):
    """What a file and a cut of it give, which has to be the same."""
    clip = read_audio(path)
    np.testing.assert_array_equal(load_cut(whole(path)), clip)
    return clip


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("rounded", [True, False])
def test_integers_that_are_stored_as_floats_are_brought_to_full_scale(tmp_path, subtype, bits, rounded):
    samples = SOUND.astype(np.float64) * 2.0 ** (bits - 1)
    soundfile.write(tmp_path / "a.wav", np.round(samples) if rounded else samples, 16_000, subtype=subtype)
    np.testing.assert_allclose(both(tmp_path / "a.wav"), SOUND, atol=2**-15)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "PCM_U8", "ULAW", "FLOAT", "DOUBLE"])
def test_every_depth_is_at_the_same_scale(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", SOUND, 16_000, subtype=subtype)
    np.testing.assert_allclose(both(tmp_path / "a.wav"), SOUND, atol={"PCM_U8": 2**-7, "ULAW": 0.02}.get(subtype, 1e-4))


@pytest.mark.parametrize("loudness", [1e-4, 2.2, 8.0])
def test_floats_that_are_quiet_or_somewhat_over_are_taken_as_they_are(tmp_path, loudness):
    soundfile.write(tmp_path / "a.wav", SOUND * loudness, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(both(tmp_path / "a.wav"), (SOUND * loudness).astype(np.float32))


@pytest.mark.parametrize("spoiled", [SOUND * 60, SOUND * 1e12, np.where(np.arange(16_000) == 99, 3e4, SOUND)])
def test_samples_of_no_known_scale_are_refused_by_name(tmp_path, spoiled):
    path = tmp_path / "a.wav"
    soundfile.write(path, spoiled, 16_000, subtype="DOUBLE")
    for read in (lambda: read_audio(path), lambda: load_cut(whole(path))):
        with pytest.raises(UserError, match=rf"{re.escape(str(path))} has samples of up to .*full scale") as refused:
            read()
        assert "\n" not in str(refused.value)


def test_the_scale_of_a_part_is_that_of_its_file(tmp_path):
    hiss = np.round(np.random.default_rng(0).standard_normal(16_000)) * 1.0
    soundfile.write(tmp_path / "a.wav", np.concatenate([hiss, SOUND * 2**15]), 16_000, subtype="FLOAT")
    quiet = load_cut(whole(tmp_path / "a.wav").truncate(duration=1.0))
    np.testing.assert_allclose(quiet, hiss / 2**15, atol=1e-7)


@pytest.mark.parametrize("gain", [1.0, 0.9])
@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_channels_in_opposite_phase_do_not_cancel(tmp_path, gain, offset):
    pair = np.stack([SOUND + offset, -gain * SOUND + offset], axis=1)
    soundfile.write(tmp_path / "a.wav", pair, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(both(tmp_path / "a.wav"), SOUND + offset, atol=1e-6)
    part = whole(tmp_path / "a.wav").truncate(offset=0.25, duration=0.5)
    np.testing.assert_allclose(load_cut(part), (SOUND + offset)[4000:12_000], atol=1e-6)


def test_channels_in_opposite_phase_do_not_cancel_in_formats_of_ffmpeg(tmp_path):
    encode(tmp_path / "a.m4a", [SOUND, -SOUND], rate=16_000, codec="aac")
    assert level(both(tmp_path / "a.m4a")[4000:12_000]) == pytest.approx(level(SOUND), rel=0.05)


@pytest.mark.parametrize("second", [OTHER, SOUND, np.zeros_like(SOUND), -0.3 * SOUND, 0.5 * OTHER - 0.3 * SOUND])
def test_other_channels_are_averaged(tmp_path, second):
    """Two speakers of a call, one twice, one beside silence, and some of one in the other's channel."""
    soundfile.write(tmp_path / "a.wav", np.stack([SOUND, second], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(both(tmp_path / "a.wav"), (SOUND + second) / 2, atol=1e-6)


def test_one_channel_of_a_call_is_read_alone(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([SOUND, OTHER], axis=1), 16_000, subtype="FLOAT")
    recording = recording_of(tmp_path / "a.wav", id="call")
    for channel, sound in enumerate((SOUND, OTHER)):
        np.testing.assert_allclose(load_cut(MonoCut("a", 0, 1, channel, recording=recording)), sound, atol=1e-6)
    assert isinstance(recording.to_cut(), MultiCut)
    kept = Recording.from_dict(recording.to_dict())
    np.testing.assert_array_equal(load_cut(kept.to_cut()), read_audio(tmp_path / "a.wav"))


def test_what_lhotse_transforms_or_holds_in_memory_is_brought_to_scale_too(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([SOUND, -SOUND], axis=1) * 2**15, 16_000, subtype="FLOAT")
    recording = recording_of(tmp_path / "a.wav", id="it")
    np.testing.assert_allclose(load_cut(recording.to_cut().resample(8000), 8000), SOUND[::2], atol=2e-2)
    recording.sources = [AudioSource("memory", [0, 1], (tmp_path / "a.wav").read_bytes())]
    np.testing.assert_allclose(load_cut(recording.to_cut()), SOUND, atol=1e-4)


def test_levels_of_nothing_are_nothing():
    found = Levels.of([], 2)
    assert (found.frames, found.full_scale("it"), found.channel([0, 1])) == (0, 1.0, None)
    assert Levels.of([np.zeros((9, 2), np.float32)], 2).channel([0, 1]) is None
