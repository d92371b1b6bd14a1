"""Audio files as blocks of samples: by libsndfile where it knows the format, else by FFmpeg.

FFmpeg also takes what libsndfile reads wrongly: files whose header was never finished, as from a pipe or a recorder
that was stopped, and FLAC of unknown length.
"""

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from trimbre.data.columns import AUDIO
from trimbre.data.headers import Source, is_mp3, is_wrong, opened, refuse_short
from trimbre.data.silence import silent_stderr
from trimbre.errors import UserError, reason

BLOCK = 1 << 16
"""Frames that are decoded at a time."""
UNKNOWN = 1 << 62
"""libsndfile gives a length above this where a header states none."""
PACKETS = 0.5
"""Seconds that a container of packets may end before the length that it states: a packet is not divided."""


@dataclass(frozen=True)
class Stream:
    """The samples of a file, from a position on."""

    rate: int
    """Hz, of the file."""
    channels: int
    frames: int | None
    """Of the whole file, where its header can be believed."""
    exact: bool
    """Whether that is the length; of an MP3 it is what its header says of what may have been cut since."""
    floating: bool
    """Whether samples are stored as floating-point numbers, which may exceed full scale."""
    blocks: Iterator[np.ndarray]
    """(frames, channels) float32 each."""


@contextmanager
def decoded(source: Source, place: str, *, start: float = 0.0) -> Iterator[Stream]:
    """Open a file at `start` seconds.

    Args:
        place: what messages call it.

    Raises:
        UserError: it is empty, missing or decoded by neither library, has several audio tracks of equal right, or holds
            less or more than its header states. Damage that begins later is raised while its blocks are read. Where no
            length is stated, a last block that is cut off is left out.
    """
    _check(source, place)
    sound = None if is_wrong(source, place) else _by_libsndfile(source)
    if sound is not None:
        with sound:
            if 0 < sound.frames < UNKNOWN:
                floating = sound.subtype in ("FLOAT", "DOUBLE")
                blocks = _blocks(sound, place, round(start * sound.samplerate))
                exact = sound.format != "MP3"
                yield Stream(sound.samplerate, sound.channels, sound.frames, exact, floating, blocks)
                return
            if sound.frames == 0 and sound.format in ("WAV", "WAVEX", "RF64", "W64"):
                yield Stream(sound.samplerate, sound.channels, 0, True, False, iter(()))
                return
    with _by_ffmpeg(source, place, start) as stream:
        yield stream


def _by_libsndfile(source: Source) -> soundfile.SoundFile | None:
    """A file that libsndfile opens; None for another format."""
    try:
        with silent_stderr(is_mp3(source)):
            return soundfile.SoundFile(_given(source))
    except (soundfile.SoundFileError, TypeError):  # TypeError: .raw, which has no header
        return None


def _check(source: Source, place: str) -> None:
    if isinstance(source, Path):
        if source.is_dir():
            raise UserError(f"{place} is a folder: give the recordings in it, {_recordings_in(source)}")
        if not source.is_file():
            raise UserError(f"no audio file {place}: check the name")
        size = source.stat().st_size
    else:
        size = len(source)
    if not size:
        raise UserError(f"{place} is empty: copy or record it again")


def _recordings_in(folder: Path) -> str:
    """The recordings of a folder as a shell's pattern: by the most frequent ending of what lies in it."""
    endings = Counter(path.suffix for path in sorted(folder.glob("*")) if path.suffix.lower() in AUDIO)
    return str(folder / f"*{next((ending for ending, _ in endings.most_common(1)), '.wav')}")


def _given(source: Source) -> str | io.BytesIO:
    return str(source) if isinstance(source, Path) else io.BytesIO(source)


def _blocks(sound: soundfile.SoundFile, place: str, start: int) -> Iterator[np.ndarray]:
    """The samples from a frame on."""
    try:
        skipped = min(start, sound.frames)
        with silent_stderr(sound.format == "MP3"):
            done = sound.seek(skipped) if sound.seekable() else 0  # GSM 6.10, of telephones, is read from its beginning
        while True:
            with silent_stderr(sound.format == "MP3"):
                block = sound.read(BLOCK, dtype="float32", always_2d=True)
            if not len(block):
                break
            if done + len(block) > skipped:
                yield block[max(0, skipped - done) :]
            done += len(block)
    except soundfile.SoundFileError as error:
        raise UserError(f"cannot decode {place}: it is damaged or cut off, copy or record it again") from error
    if sound.format != "MP3":
        refuse_short(done / sound.samplerate, sound.frames / sound.samplerate, place)


@contextmanager
def _by_ffmpeg(source: Source, place: str, start: float) -> Iterator[Stream]:
    import av

    raw = isinstance(source, Path) and source.suffix.lower() == ".g722"
    # A playlist may not lead to other machines; a size that was never filled in does not count.
    options = {"protocol_whitelist": "file"} | ({"ignore_length": "1"} if _is_wav(source) else {})
    try:
        with av.open(_given(source), format="g722" if raw else None, options=options) as container:
            track = _track(container, place)
            frames = _frames(container, track, place)
            first = next(frames, None)
            if first is None:
                yield Stream(int(track.rate or 1), int(track.channels or 1), 0, True, False, iter(()))
                return
            rate = first.sample_rate
            floating = track.codec_context.name.startswith("pcm_f")
            # Its channels are kept: FFmpeg's own downmix is louder by 3 dB.
            resampler = av.AudioResampler(format="fltp", rate=rate, layout=first.layout)
            blocks = _after(_planes(chain([first], frames), resampler), round(start * rate))
            yield Stream(rate, len(first.layout.channels), None, True, floating, blocks)
    except UserError:
        raise
    except (av.FFmpegError, ValueError, IndexError) as error:
        # FFmpeg's own words name no cause: "Operation not permitted" is a damaged block of AAC.
        why = "" if isinstance(error, av.FFmpegError) else f" ({reason(error)})"
        raise UserError(
            f"cannot decode {place}: it is damaged, or not audio that libsndfile or FFmpeg reads{why}"
        ) from error


def _is_wav(source: Source) -> bool:
    with opened(source) as file:
        return file.read(4) in (b"RIFF", b"RF64")


def _track(container: Any, place: str) -> Any:
    """The audio track: the only one, or the one that is marked as the default."""
    import av

    tracks = list(container.streams.audio)
    if not tracks:
        raise ValueError("it has no audio track")
    marked = [track for track in tracks if track.disposition & av.stream.Disposition.default]
    if len(tracks) > 1 and len(marked) != 1:
        raise UserError(
            f"{place} has {len(tracks)} audio tracks and none is marked as the default: extract the one to recognise "
            "(ffmpeg -i IN -map 0:a:0 OUT.wav)"
        )
    return marked[0] if len(marked) == 1 else tracks[0]


def _frames(container: Any, track: Any, place: str) -> Iterator[Any]:
    """The decoded frames of a track; a last packet that was cut off is left out.

    Raises:
        UserError: the track ends before the container says.
    """
    import av

    broken: Exception | None = None
    end = 0.0
    for packet in container.demux(track):
        if broken is not None and packet.size:
            raise broken  # sound follows: the file is not cut off but damaged
        try:
            yield from packet.decode()
        except av.InvalidDataError as error:
            broken = error
        if packet.pts is not None:
            end = float((packet.pts + (packet.duration or 0) - (track.start_time or 0)) * track.time_base)
    if (stated := _stated(container, track)) - PACKETS > end:
        refuse_short(end, stated, place)


def _stated(container: Any, track: Any) -> float:
    """The length of a track in seconds where its container states one; 0 where FFmpeg would estimate it."""
    names = container.format.name.split(",")
    if "mp4" in names and track.duration:
        return float(track.duration * track.time_base)
    if "matroska" in names and len(container.streams) == 1 and container.duration:
        return float(container.duration / 1_000_000)
    return 0.0


def _planes(frames: Iterator[Any], resampler: Any) -> Iterator[np.ndarray]:
    for frame in chain(frames, [None]):
        for out in resampler.resample(frame):
            yield np.ascontiguousarray(out.to_ndarray().T, dtype=np.float32)


def _after(blocks: Iterator[np.ndarray], skipped: int) -> Iterator[np.ndarray]:
    for block in blocks:
        if skipped < len(block):
            yield block[skipped:]
        skipped = max(0, skipped - len(block))
