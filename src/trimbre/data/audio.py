"""Sound in and out: any rate, any number of channels and any format in, 16 kHz mono inside."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from trimbre.errors import UserError
from trimbre.files import written_whole

SAMPLE_RATE = 16_000


def read_audio(path: str | Path) -> np.ndarray:
    """Read a sound file as (samples,) float32, mono, 16 kHz.

    libsndfile reads it if it can, PyAV (FFmpeg) otherwise; `.g722` is taken as bare G.722.

    Raises:
        UserError: the file is missing or neither can decode it, or it holds samples that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no audio file {path}: check the name")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        clip = resample(samples.mean(axis=1), rate)
    except soundfile.SoundFileError:
        clip = _decode(path)
    if not np.isfinite(clip).all():
        raise UserError(f"{path} holds samples that are not finite numbers: export it again")
    return clip


def resample(clip: np.ndarray, rate: float) -> np.ndarray:
    """(samples,) at `rate` Hz to (samples,) float32 at 16 kHz."""
    if rate != SAMPLE_RATE and len(clip):
        clip = soxr.resample(clip, rate, SAMPLE_RATE)
    return np.ascontiguousarray(clip, dtype=np.float32)


def write_audio(path: Path, clip: np.ndarray) -> None:
    """Write (samples,) at 16 kHz as 16-bit FLAC, whole or not at all."""
    with written_whole(path) as beside:
        soundfile.write(beside, np.clip(clip, -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")


def load_cut(cut: Any) -> np.ndarray:
    """The audio of a lhotse cut as (samples,) float32, mono, 16 kHz."""
    samples = np.atleast_2d(cut.load_audio()).mean(axis=0)
    return resample(samples, cut.sampling_rate)


def _decode(path: Path) -> np.ndarray:
    import av

    try:
        with av.open(str(path), format="g722" if path.suffix == ".g722" else None) as container:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
            frames += resampler.resample(None)
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise UserError(f"cannot decode {path}: it is not audio that libsndfile or FFmpeg reads ({error})") from error
    if not frames:
        return np.zeros(0, dtype=np.float32)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]).astype(np.float32)
