"""Headers that were never finished, files that are cut off, and lengths: what is there is read, or it is said."""

import os
import re
import struct

import av
import numpy as np
import pytest
import soundfile
from helpers.tones import encode, pitch, tone

from trimbre.data.audio import audio_length, load_cut, read_audio, recording_of
from trimbre.errors import UserError

SOUND = tone(440, 1.0)


def wav(tmp_path, subtype="PCM_16", format="WAV", rate=16_000):
    path = tmp_path / "a.wav"
    soundfile.write(path, SOUND, rate, subtype=subtype, format=format)
    return path


def with_size(path, size, *, chunk=b"data"):
    content = bytearray(path.read_bytes())
    at = content.index(chunk) + 4
    content[at : at + 4] = struct.pack("<I", size)
    content[4:8] = struct.pack("<I", min(0xFFFFFFFF, size + 36))
    path.write_bytes(content)


def same_everywhere(path, expected):
    np.testing.assert_allclose(read_audio(path), expected, atol=1e-4)
    recording = recording_of(path, id="it")
    assert (recording.num_samples, recording.sampling_rate) == (len(expected), 16_000)
    np.testing.assert_array_equal(load_cut(recording.to_cut()), read_audio(path))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x80000000])
def test_a_size_that_was_never_filled_in_does_not_matter(tmp_path, subtype, size):
    path = wav(tmp_path, subtype)
    with_size(path, size)
    same_everywhere(path, SOUND)


def test_neither_do_those_of_rf64_and_flac(tmp_path):
    path = wav(tmp_path, format="RF64")
    content = bytearray(path.read_bytes())
    at = content.index(b"ds64") + 8
    content[at : at + 24] = bytes(24)
    path.write_bytes(content)
    same_everywhere(path, SOUND)
    soundfile.write(tmp_path / "a.flac", SOUND, 16_000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)  # the number of samples is not known
    (tmp_path / "a.flac").write_bytes(content)
    same_everywhere(tmp_path / "a.flac", SOUND)


def test_chunks_after_the_samples_are_none(tmp_path):
    path = wav(tmp_path)
    note = b"LIST" + struct.pack("<I", 40_000) + b"INFO" + b"x" * 39_996
    path.write_bytes(path.read_bytes() + note)
    same_everywhere(path, SOUND)
    path.write_bytes(path.read_bytes()[:-32_000] + b"\0\1\2\3" * 100)  # nor is what a recorder adds of its own
    same_everywhere(path, SOUND)
    soundfile.write(path, np.zeros(0), 16_000)
    path.write_bytes(path.read_bytes() + note)
    assert len(read_audio(path)) == audio_length(path).samples == 0


def test_a_file_that_is_cut_off_or_holds_more_than_it_states_is_named(tmp_path):
    path = wav(tmp_path)
    content = path.read_bytes()
    half = tmp_path / "half.wav"
    half.write_bytes(content[:16_000])
    more = tmp_path / "more.wav"
    more.write_bytes(content)
    with_size(more, 4000)
    flac = tmp_path / "half.flac"
    soundfile.write(flac, SOUND, 16_000)
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    for file, reason in ((half, "cut off: its header states 1.0 s"), (more, "states 4000 bytes"), (flac, "cut off")):
        with pytest.raises(UserError, match=f"{re.escape(str(file))}.*{reason}") as refused:
            read_audio(file)
        assert "\n" not in str(refused.value)


def test_a_few_samples_less_than_stated_are_no_matter(tmp_path):
    path = wav(tmp_path)
    with_size(path, 32_000 + 44)  # the size of the file, as some programs write it
    same_everywhere(path, SOUND)


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mka", "flac"), ("a.mp4", "aac"), ("a.mkv", "ac3")])
def test_parts_of_what_ffmpeg_reads_are_parts_of_the_whole(tmp_path, name, codec):
    encode(tmp_path / name, [SOUND], rate=16_000 if codec != "ac3" else 32_000, codec=codec)
    samples, rate, channels = audio_length(tmp_path / name)
    cut = recording_of(tmp_path / name, id="it").to_cut()
    assert (cut.num_samples, cut.sampling_rate, channels) == (samples, rate, 1)
    part = load_cut(cut.truncate(offset=0.25, duration=0.25), rate)
    np.testing.assert_array_equal(part, read_audio(tmp_path / name, rate)[rate // 4 : rate // 2])


@pytest.mark.parametrize("marked", [None, 1])
def test_of_several_tracks_the_default_is_read(tmp_path, marked):
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        if marked is not None:
            streams[marked].disposition = av.stream.Disposition.default
        for stream, sound in zip(streams, (SOUND, tone(700, 1.0)), strict=True):
            samples = np.round(sound * 2**15).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = 16_000
            container.mux([*stream.encode(frame), *stream.encode(None)])
    if marked is None:
        with pytest.raises(UserError, match="2 audio tracks and none is marked as the default"):
            read_audio(path)
    else:
        np.testing.assert_allclose(read_audio(path), tone(700, 1.0), atol=1e-4)


def test_a_manifest_with_another_rate_than_its_file_is_refused(tmp_path):
    path = wav(tmp_path)
    recording = recording_of(path, id="it")
    recording.sampling_rate, recording.duration = 8000, 2.0
    with pytest.raises(UserError, match=r"a\.wav is at 16000 Hz and its manifest says 8000 Hz"):
        load_cut(recording.to_cut())


def test_a_long_recording_is_read_in_blocks(tmp_path):
    noise = np.random.default_rng(0).standard_normal(400_000).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", np.stack([noise, noise], axis=1), 48_000, subtype="FLOAT")
    assert len(read_audio(tmp_path / "a.wav")) == pytest.approx(400_000 / 3, abs=1)
    soundfile.write(tmp_path / "b.wav", noise, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "b.wav"), noise)


def test_gsm_of_telephones_is_read_and_so_are_its_parts(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(440, 2.0, 8000), 8000, subtype="GSM610")  # libsndfile cannot seek in it
    assert pitch(read_audio(path)) == pytest.approx(440, abs=1)
    part = recording_of(path, id="it").to_cut().truncate(offset=0.5, duration=0.5)
    np.testing.assert_array_equal(load_cut(part, 8000), read_audio(path, 8000)[4000:8000])


@pytest.mark.parametrize("suffix", ["aiff", "au", "caf", "w64", "mp3"])
def test_of_every_format_a_file_that_is_cut_off_is_named(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(440, 4.0), 16_000)
    content = path.read_bytes()
    read_audio(path)
    path.write_bytes(content[: len(content) * 2 // 3])
    for read in (read_audio, audio_length):
        with pytest.raises(UserError, match=rf"a\.{suffix} is cut off: its header states {len(content) // 1000}\d*"):
            read(path)


@pytest.mark.parametrize(("name", "codec"), [("a.mka", "libopus"), ("a.m4a", "aac")])
def test_so_is_one_whose_container_states_a_length(tmp_path, name, codec):
    path = tmp_path / name
    encode(path, [tone(440, 4.0)], rate=16_000, codec=codec)
    if codec == "aac":  # the index comes first, as in a file that is played while it is loaded
        index_first(path)
    content = path.read_bytes()
    assert len(read_audio(path)) == pytest.approx(64_000, abs=2048)
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match=r"is cut off: its header states 4\.\d s and 2\.\d s are there"):
        read_audio(path)


def index_first(path):
    moved = path.with_name("moved.m4a")
    with av.open(str(path)) as given, av.open(str(moved), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(given.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    moved.replace(path)


def test_mp3s_that_were_joined_are_read_to_their_end(tmp_path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, tone(440, 2.0), 16_000)
    one = path.read_bytes()
    soundfile.write(path, tone(700, 2.0), 16_000)
    path.write_bytes(one + path.read_bytes())  # the header counts the first alone
    clip = read_audio(path)
    assert len(clip) == pytest.approx(4 * 16_000, abs=4000)
    assert (pitch(clip[:24_000]), pitch(clip[-24_000:])) == pytest.approx((440, 700), abs=1)
    assert audio_length(path).samples == len(clip)


def test_of_a_damaged_mp3_nothing_but_our_sentence_is_said(tmp_path, capfd):
    """libmpg123 writes notes to standard error by itself; what is written there afterwards is not lost."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, np.tile(SOUND, 8), 16_000, format="MP3")
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 3000] = bytes(3000)
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(UserError, match="it is damaged or cut off"):
            read_audio(path)
    os.write(2, b"said\n")
    assert capfd.readouterr().err == "said\n"


def test_what_is_no_audio_is_said_in_words(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(np.random.default_rng(0).bytes(20_000))
    with pytest.raises(UserError) as refused:
        read_audio(path)
    assert str(refused.value) == (f"cannot decode {path}: it is damaged, or not audio that libsndfile or FFmpeg reads")


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"ID3", b"ID3" + bytes(7) + b"Xing", b"RIFF", b"caff" + bytes(8) + b"\x7f" * 12, b"FORM", b".snd"],
)
def test_so_is_a_header_that_ends_at_once(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for read in (read_audio, audio_length):
        with pytest.raises(UserError, match=r"a\.wav") as refused:
            read(path)
        assert "\n" not in str(refused.value)


def test_a_folder_is_called_one_with_the_recordings_in_it(tmp_path):
    for name, ending in (("notes.txt", ".wav"), ("a.FLAC", ".FLAC"), ("b.mp3", ".FLAC"), ("c.mp3", ".mp3")):
        (tmp_path / name).touch()
        with pytest.raises(UserError) as refused:
            read_audio(tmp_path)
        assert str(refused.value) == f"{tmp_path} is a folder: give the recordings in it, {tmp_path}/*{ending}"


@pytest.mark.parametrize(
    ("tail", "passes"), [(b"ID3" + b"x" * 20_000, True), (bytes(20_000), True), (b"\1\2" * 8000, False)]
)
def test_a_tail_that_is_no_sound_is_left_out(tmp_path, tail, passes):
    path = wav(tmp_path)
    path.write_bytes(path.read_bytes() + tail)
    if passes:
        same_everywhere(path, SOUND)
    else:
        with pytest.raises(UserError, match="states 32000 bytes of samples and 16000 follow"):
            read_audio(path)
