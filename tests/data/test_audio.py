"""Audio of any rate, channel count and format, against the sine that was written."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.tones import encode, pitch, tone

from trimbre.data.audio import SAMPLE_RATE, read_audio, resample, write_audio
from trimbre.errors import UserError


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_and_channel_count_come_in_as_the_same_sine(tmp_path, rate, channels):
    path = tmp_path / "a.wav"
    # Only the first channel sounds: the mean of all is its share.
    silence = np.zeros((rate, channels - 1), dtype=np.float32)
    soundfile.write(path, np.hstack([tone(440, 1.0, rate)[:, None], silence]), rate, subtype="FLOAT")
    clip = read_audio(path)
    assert clip.dtype == np.float32
    assert clip.shape == (SAMPLE_RATE,)
    inner = slice(400, -400)  # a resampler rings at the ends
    np.testing.assert_allclose(clip[inner], tone(440, 1.0)[inner] / channels, atol=1e-3)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "aiff"])
def test_formats_that_libsndfile_reads(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(1000, 1.0, 44_100)] * 2, axis=1), 44_100)
    clip = read_audio(path)
    assert len(clip) == SAMPLE_RATE
    assert pitch(clip) == 1000
    assert np.abs(clip[2000:-2000]).max() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels"),
    [
        ("a.m4a", "aac", 44_100, 2),
        ("b.m4a", "aac", 22_050, 1),
        ("a.mka", "ac3", 48_000, 2),
        ("b.mka", "flac", 44_100, 2),
        ("a.g722", "g722", 16_000, 1),
        ("A.G722", "g722", 16_000, 1),
    ],
)
def test_formats_that_only_ffmpeg_reads(tmp_path, name, codec, rate, channels):
    clips = [tone(1000, 1.0, rate), np.zeros(rate, dtype=np.float32)][:channels]
    encode(tmp_path / name, clips, rate=rate, codec=codec, format="g722" if codec == "g722" else None)
    with pytest.raises(soundfile.SoundFileError):
        soundfile.read(tmp_path / name)
    clip = read_audio(tmp_path / name)
    # These two fill up their last frame, and begin with one of silence.
    spare = {"aac": 2 * 1024, "ac3": 2 * 1536}.get(codec, 0)
    assert 0 <= len(clip) - SAMPLE_RATE <= spare / rate * SAMPLE_RATE
    assert pitch(clip) == pytest.approx(1000, abs=0.5)
    assert np.abs(clip[4000:12_000]).max() == pytest.approx(0.5 / channels, abs=0.03)


def test_what_is_no_sound_is_refused_by_name(tmp_path):
    spoiled = tone(440, 0.1)
    for number, odd in enumerate([np.nan, np.inf]):
        spoiled[5] = odd
        soundfile.write(tmp_path / f"spoiled{number}.wav", spoiled, 8000, subtype="FLOAT")
    for name in ["empty.wav", "empty.g722"]:
        (tmp_path / name).touch()
    for name in ["text.txt", "text.wav", "text.m4a", "text.raw"]:
        (tmp_path / name).write_text("this is no sound\n" * 100)
    encode(tmp_path / "whole.m4a", [tone(440, 1.0)], rate=16_000, codec="aac")
    (tmp_path / "half.m4a").write_bytes((tmp_path / "whole.m4a").read_bytes()[:2000])
    (tmp_path / "whole.m4a").unlink()
    (tmp_path / "folder.wav").mkdir()
    for path in [*tmp_path.iterdir(), tmp_path / "missing.wav"]:
        with pytest.raises(UserError, match=re.escape(str(path))) as refused:
            read_audio(path)
        assert "\n" not in str(refused.value)


def test_a_recording_without_samples_is_an_empty_clip(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 44_100)
    assert read_audio(tmp_path / "a.wav").shape == (0,)
    assert resample(np.zeros(0), 44_100).dtype == np.float32


def test_flac_is_read_back_to_half_a_step_of_16_bits_and_clipped(tmp_path):
    clip = tone(440, 0.5, level=1.5)
    write_audio(tmp_path / "new" / "a.flac", clip)
    assert soundfile.info(tmp_path / "new" / "a.flac").subtype == "PCM_16"
    # The loudest positive step of 16 bits is one short of 1.
    np.testing.assert_allclose(read_audio(tmp_path / "new" / "a.flac"), np.clip(clip, -1, 1 - 2**-15), atol=2**-16)


def test_a_write_that_fails_leaves_what_stood_there(tmp_path, monkeypatch):
    write_audio(tmp_path / "old.flac", tone(440, 0.1))
    before = (tmp_path / "old.flac").read_bytes()

    def fail(path, content):
        with path.open("wb") as file:
            file.write(content[:9])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    for name in ["old.flac", "new.flac"]:
        with pytest.raises(OSError, match="disk is full"):
            write_audio(tmp_path / name, tone(880, 0.1))
    assert [path.name for path in tmp_path.iterdir()] == ["old.flac"]
    assert (tmp_path / "old.flac").read_bytes() == before
