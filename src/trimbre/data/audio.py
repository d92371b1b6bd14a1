"""Audio files and lhotse cuts as arrays: any format, rate and number of channels in, mono float32 at one rate out."""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
from lhotse import Recording
from lhotse.audio import AudioSource
from lhotse.cut import MonoCut, MultiCut
from lhotse.utils import compute_num_samples

from trimbre.data.decoding import Source, Stream, decoded
from trimbre.data.levels import Levels
from trimbre.errors import UserError
from trimbre.files import written_whole

SAMPLE_RATE = 16_000
"""Hz, of the corpora that are written here. That of a model is its own: `trimbre.models.inputs.rate_of`."""
TOLERANCE = 0.025
"""Seconds by which the length that a manifest states may be wrong."""


class AudioLength(NamedTuple):
    """How long a file is."""

    samples: int
    """Of one channel."""
    rate: int
    """Hz."""
    channels: int


def read_audio(path: str | Path, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Read an audio file as (samples,) float32, mono, at `rate` Hz.

    By libsndfile where it knows the format, else by PyAV (FFmpeg). `.g722` is raw G.722. Of several tracks the default
    is read. Channels are averaged; where that would cancel them, as in opposite phase, the loudest is taken.
    Floating-point samples that hold integers are brought to full scale.

    Raises:
        UserError: the file is missing, empty or decoded by neither, or has samples that are not finite or of no known
            scale.
    """
    path = Path(path)
    clip, _ = _decode(path, str(path), rate)
    return _finite(clip, str(path))


def audio_length(path: str | Path) -> AudioLength:
    """The length of an audio file, decoded where its header does not state it.

    Raises:
        UserError: as `read_audio`.
    """
    path = Path(path)
    with decoded(path, str(path)) as stream:
        frames = sum(map(len, stream.blocks)) if stream.frames is None else stream.frames
        return AudioLength(frames, stream.rate, stream.channels)


def recording_of(path: str | Path, *, id: str) -> Recording:
    """A lhotse recording of an audio file in any format that `read_audio` reads.

    Raises:
        UserError: as `read_audio`, or the file holds no audio.
    """
    samples, rate, channels = audio_length(path)
    if not samples:
        raise UserError(f"{path} holds no audio: record or copy it again")
    source = AudioSource("file", list(range(channels)), str(path))
    return Recording(id, [source], rate, samples, samples / rate)


def resample(clip: np.ndarray, rate: float, to: int = SAMPLE_RATE) -> np.ndarray:
    """(samples,) at `rate` Hz to (samples,) float32 at `to` Hz."""
    if rate != to and len(clip):
        clip = soxr.resample(clip, rate, to)
    return np.ascontiguousarray(clip, dtype=np.float32)


def write_audio(path: str | Path, clip: np.ndarray) -> None:
    """Write (samples,) at 16 kHz as 16-bit FLAC, atomically."""
    encoded = io.BytesIO()  # libsndfile itself calls a full disk a "system error"
    soundfile.write(encoded, np.clip(clip, -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    with written_whole(path) as beside:
        beside.write_bytes(encoded.getvalue())


def load_cut(cut: Any, rate: int = SAMPLE_RATE) -> np.ndarray:
    """The audio of a lhotse cut as (samples,) float32, mono, at `rate` Hz.

    A cut of a file gives the same samples as `read_audio` does of that file. What lhotse mixes, transforms or fetches
    itself is read by lhotse.

    Raises:
        UserError: it cannot be read, or has samples that are not finite or of no known scale.
    """
    recording = getattr(cut, "recording", None)
    place = ", ".join(map(_name, recording.sources)) if recording else "its recordings"
    if _is_plain(cut):
        try:
            clip = _read_part(cut, place, rate)
        except UserError as error:
            raise UserError(f"cannot read the audio of {cut.id} ({error})") from error
    else:
        try:
            samples = np.atleast_2d(cut.load_audio()).T
        except Exception as error:  # lhotse's backends raise whatever their decoders do
            raise UserError(
                f"cannot read the audio of {cut.id} ({place}): it is missing, damaged or shorter than the manifest says"
            ) from error
        channels, levels = list(range(samples.shape[1])), Levels.of([samples], samples.shape[1])
        mono = _mono(samples, channels, levels) / np.float32(levels.full_scale(place))
        clip = resample(mono, cut.sampling_rate, rate)
    return _finite(clip, place)


def _name(source: AudioSource) -> str:
    return str(source.source) if source.type in ("file", "url", "command") else f"audio in {source.type}"


def _is_plain(cut: Any) -> bool:
    """Whether a cut is a part of one file, as it was recorded."""
    if not isinstance(cut, MonoCut | MultiCut) or cut.recording is None or cut.recording.transforms:
        return False
    sources = cut.recording.sources
    return len(sources) == 1 and sources[0].type in ("file", "memory")


def _read_part(cut: Any, place: str, rate: int) -> np.ndarray:
    """The audio of a part of one file; raises UserError where the file is not what the cut states."""
    recording = cut.recording
    (source,) = recording.sources
    given: Source = Path(source.source) if source.type == "file" else bytes(source.source)
    asked = {cut.channel} if isinstance(cut.channel, int) else set(cut.channel)
    left_out = {number for number, channel in enumerate(source.channels) if channel not in asked}
    whole = cut.start == 0 and math.isclose(cut.duration, recording.duration, abs_tol=1e-3)

    exact = True

    def frames(stream: Stream) -> int | None:
        nonlocal exact
        exact = stream.exact
        if stream.rate != recording.sampling_rate:
            found = _levels(given, place).frames if stream.frames is None else stream.frames
            if found and abs(found / stream.rate - recording.duration) > TOLERANCE:
                raise UserError(
                    f"{place} is at {stream.rate} Hz and its manifest says {recording.sampling_rate} Hz: correct that"
                )
        return None if whole else compute_num_samples(cut.duration, stream.rate)

    clip, seconds = _decode(given, place, rate, start=cut.start, frames=frames, left_out=left_out)
    if abs(seconds - cut.duration) > TOLERANCE and (exact or not whole):
        raise UserError(
            f"{place} has {seconds:.2f} s from {cut.start:.2f} s on where its manifest says {cut.duration:.2f} s"
        )
    return clip[: compute_num_samples(cut.duration, rate)] if whole else clip


def _decode(
    source: Source,
    place: str,
    rate: int,
    *,
    start: float = 0.0,
    frames: Callable[[Stream], int | None] = lambda stream: None,
    left_out: set[int] | frozenset[int] = frozenset(),
) -> tuple[np.ndarray, float]:
    """Mono audio at `rate` Hz from `start` seconds on, and its length in seconds in the file.

    Args:
        frames: how many of the file's own frames are wanted; None for all.
        left_out: channels that are not wanted.
    """
    with decoded(source, place, start=start) as stream:
        wanted = frames(stream)
        channels = [number for number in range(stream.channels) if number not in left_out]
        levels = _levels(source, place) if stream.floating or len(channels) > 1 else None
        scale = levels.full_scale(place) if levels is not None and stream.floating else 1.0
        taken, parts = 0, []
        resampler = None if stream.rate == rate else soxr.ResampleStream(stream.rate, rate, 1, dtype="float32")
        for block in _first(stream.blocks, wanted):
            mono = _mono(block, channels, levels)
            if scale != 1:
                mono = mono / np.float32(scale)
            taken += len(mono)
            parts.append(mono if resampler is None else resampler.resample_chunk(mono))
        if resampler is not None:
            parts.append(resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
    return np.concatenate([np.zeros(0, dtype=np.float32), *parts]), taken / stream.rate


def _first(blocks: Iterator[np.ndarray], frames: int | None) -> Iterator[np.ndarray]:
    """Blocks up to so many frames; all where that is None."""
    for block in blocks:
        yield block if frames is None else block[:frames]
        if frames is not None:
            frames -= len(block)
            if frames <= 0:
                return


def _mono(samples: np.ndarray, channels: Sequence[int], levels: Levels | None) -> np.ndarray:
    """(frames,) from (frames, channels)."""
    if len(channels) == 1:
        return np.ascontiguousarray(samples[:, channels[0]])
    one = None if levels is None else levels.channel(channels)
    if one is not None:
        return np.ascontiguousarray(samples[:, one])
    mean: np.ndarray = (samples if len(channels) == samples.shape[1] else samples[:, channels]).mean(axis=1)
    return mean


def _levels(source: Source, place: str) -> Levels:
    """The levels of a whole file; those of a file on disk are kept, for many cuts may be parts of it."""
    if isinstance(source, bytes):
        return _measured(source, place)
    state = source.stat()
    return _kept(source, place, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _kept(path: Path, place: str, modified: int, size: int) -> Levels:
    return _measured(path, place)


def _measured(source: Source, place: str) -> Levels:
    with decoded(source, place) as stream:
        return Levels.of(stream.blocks, stream.channels)


def _finite(clip: np.ndarray, place: str) -> np.ndarray:
    if not np.isfinite(clip).all():
        raise UserError(f"{place} has samples that are not finite numbers: export it again")
    return clip
