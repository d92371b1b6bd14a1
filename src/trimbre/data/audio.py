"""Audio files and lhotse cuts as arrays: any format, rate and number of channels in, mono float32 at one rate out."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from trimbre.errors import UserError
from trimbre.files import written_whole

SAMPLE_RATE = 16_000
"""Hz, of the corpora that are written here. That of a model is its own: `trimbre.models.inputs.rate_of`."""


def read_audio(path: str | Path, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Read an audio file as (samples,) float32, mono, at `rate` Hz.

    By libsndfile where it knows the format, else by PyAV (FFmpeg). `.g722` is raw G.722.

    Raises:
        UserError: the file is missing, empty or decoded by neither, or has samples that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no audio file {path}: check the name")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty: copy or record it again")
    try:
        samples, own = soundfile.read(path, dtype="float32", always_2d=True)
        clip = resample(samples.mean(axis=1), own, rate)
    except (soundfile.SoundFileError, TypeError):  # TypeError: .raw, which has no header
        clip = _decode(path, rate)
    return _finite(clip, str(path))


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

    Raises:
        UserError: it cannot be read, or has samples that are not finite.
    """
    recording = getattr(cut, "recording", None)
    place = ", ".join(str(source.source) for source in recording.sources) if recording else "its recordings"
    try:
        samples = np.atleast_2d(cut.load_audio()).mean(axis=0)
    except Exception as error:  # lhotse's backends raise whatever their decoders do
        raise UserError(
            f"cannot read the audio of {cut.id} ({place}): it is missing, damaged or shorter than the manifest says"
        ) from error
    return _finite(resample(samples, cut.sampling_rate, rate), place)


def _finite(clip: np.ndarray, place: str) -> np.ndarray:
    if not np.isfinite(clip).all():
        raise UserError(f"{place} has samples that are not finite numbers: export it again")
    return clip


def _decode(path: Path, rate: int) -> np.ndarray:
    import av

    try:
        with av.open(str(path), format="g722" if path.suffix.lower() == ".g722" else None) as container:
            if not container.streams.audio:
                raise ValueError("it has no audio track")
            # Channels are averaged below: FFmpeg's own downmix is louder by 3 dB.
            resampler = av.AudioResampler(format="fltp", rate=rate)
            frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
            frames += resampler.resample(None)
    except (av.FFmpegError, ValueError) as error:
        raise UserError(f"cannot decode {path}: it is not audio that libsndfile or FFmpeg reads ({error})") from error
    if not frames:
        return np.zeros(0, dtype=np.float32)
    return np.concatenate([frame.to_ndarray().mean(axis=0) for frame in frames]).astype(np.float32)
