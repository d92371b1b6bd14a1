"""Sound whose length, pitch and level are known in closed form, and ways to write it."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from trimbre.data.audio import write_audio
from trimbre.data.cuts import cut_of, write_cuts


def tone(hertz: float, seconds: float, rate: int = 16_000, level: float = 0.5) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def pitch(clip: np.ndarray, rate: int = 16_000) -> float:
    """The loudest frequency in Hz, to within half a hertz in a second of sound."""
    power = np.abs(np.fft.rfft(clip * np.hanning(len(clip)), 2 * rate))
    return float(np.argmax(power)) / 2


def level(clip: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(clip, dtype=np.float64))))


def encode(path: Path, clips: Sequence[np.ndarray], *, rate: int, codec: str, format: str | None = None) -> None:
    """Write one clip per channel by FFmpeg."""
    layout = {1: "mono", 2: "stereo"}[len(clips)]
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.stack(clips), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        context = stream.codec_context
        fitting = av.AudioResampler(format=context.format, layout=layout, rate=rate, frame_size=context.frame_size)
        for part in [*fitting.resample(frame), *fitting.resample(None), None]:
            container.mux(stream.encode(part))


def corpus_of(folder: Path, clips: Sequence[np.ndarray], texts: Sequence[str | None]) -> Path:
    """A folder of clips with a manifest of cuts named 0, 1, ..."""
    cuts = []
    for number, (clip, text) in enumerate(zip(clips, texts, strict=True)):
        audio = Path("audio") / f"{number}.flac"
        write_audio(folder / audio, clip)
        cuts.append(cut_of(audio, id=str(number), text=text, samples=len(clip)))
    write_cuts(cuts, folder)
    return folder
