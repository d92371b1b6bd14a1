"""WER of an exported recogniser in the runtimes that users deploy to, each with its own features.

Prints a table per set: the WER in PyTorch and in each runtime, and the share of transcripts equal to PyTorch's.

    python benchmarks/runtimes.py --model models/telephone-en --data voices=data/heldout/test prompts=data/en/test
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_asr
import onnxruntime
import sherpa_onnx
import torch
from rich.console import Console
from rich.table import Table

import trimbre
from trimbre.cli import prepare_libraries
from trimbre.config import RUNTIMES
from trimbre.data.audio import SAMPLE_RATE, load_cut
from trimbre.data.cuts import read_cuts, transcript_of
from trimbre.data.text import normalise
from trimbre.evaluation.bootstrap import word_errors
from trimbre.exporting.runtime import load_exported
from trimbre.inference.long_form import transcriber

HALF_HOP = np.zeros(80, dtype=np.float32)
"""Silence before sherpa-onnx's audio: its frames are centred half a hop later than NeMo's and transformers'."""
Transcribe = Callable[[np.ndarray], str]
"""Audio, (samples,) mono at 16 kHz -> its text."""


def main() -> None:
    """Export to every runtime, evaluate each and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="models/telephone-en")
    parser.add_argument("--data", nargs="+", default=["voices=data/heldout/test", "prompts=data/en/test"])
    parser.add_argument("--calibrate", default="data/en/train", help="calibration speech for static int8")
    parser.add_argument("--first", type=int, default=400, help="cuts of each set to evaluate on, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a JSON file to write the figures to")
    given = parser.parse_args()
    prepare_libraries()
    torch.set_num_threads(given.threads)
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        transcribers = dict(runtimes(given.model, given.calibrate, Path(folder), given.threads))
        for word in given.data:
            name, _, place = word.partition("=")
            cuts = [cut for cut in read_cuts(place) if transcript_of(cut)][: given.first]
            found[name] = compare(transcribers, cuts)
            show(name, len(cuts), found[name])
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n")


def runtimes(model: str, calibrate: str, folder: Path, threads: int) -> Iterator[tuple[str, Transcribe]]:
    """Name and transcriber of every runtime and precision, PyTorch first."""
    recogniser = trimbre.load(model)
    bands = recogniser.processor.feature_extractor.feature_size
    yield "PyTorch", transcriber(*recogniser)
    for precision, ranges in (("fp32", None), ("int8", None), ("int8", calibrate)):
        label = f"{precision}{', static' if ranges else ', dynamic' if precision == 'int8' else ''}"
        file = "model.onnx" if precision == "fp32" else "model.int8.onnx"
        for to in RUNTIMES:
            out = folder / f"{to} {label}".replace(" ", "-")
            trimbre.export(model=model, to=to, out=out, precision=precision, calibrate=ranges)
            if to == "onnx":
                yield f"ONNX Runtime, {label}", transcriber(*load_exported(out, threads=threads))
            elif to == "sherpa-onnx":
                transcribe = in_sherpa(out, file, bands, threads)
                yield f"sherpa-onnx, {label}", transcribe
                yield f"sherpa-onnx after 5 ms of silence, {label}", after_silence(transcribe)
            else:
                yield f"onnx-asr, {label}", in_onnx_asr(out, precision, threads)


def after_silence(transcribe: Transcribe) -> Transcribe:
    """The same with half a hop of silence before the audio."""
    return lambda audio: transcribe(np.append(HALF_HOP, audio))


def in_sherpa(folder: Path, file: str, bands: int, threads: int) -> Transcribe:
    """sherpa-onnx, unmodified, with its own features."""
    recognizer = sherpa_onnx.OfflineRecognizer.from_nemo_ctc(
        str(folder / file), str(folder / "tokens.txt"), feature_dim=bands, num_threads=threads
    )

    def transcribe(audio: np.ndarray) -> str:
        stream = recognizer.create_stream()
        stream.accept_waveform(SAMPLE_RATE, audio)
        recognizer.decode_stream(stream)
        return stream.result.text

    return transcribe


def in_onnx_asr(folder: Path, precision: str, threads: int) -> Transcribe:
    """onnx-asr, unmodified, with its own features."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = onnx_asr.load_model(
        "nemo-conformer-ctc", folder, quantization="int8" if precision == "int8" else None, sess_options=options
    )
    return lambda audio: model.recognize(audio, sample_rate=SAMPLE_RATE)


def compare(transcribers: dict[str, Transcribe], cuts: list) -> dict[str, dict[str, float]]:
    """WER of each, and the share of its transcripts that equal PyTorch's."""
    clips = [load_cut(cut) for cut in cuts]
    references = [normalise(transcript_of(cut) or "", "basic", language="en") for cut in cuts]
    found: dict[str, dict[str, float]] = {}
    in_pytorch: list[str] = []
    for name, transcribe in transcribers.items():
        texts = [normalise(transcribe(clip), "basic", language="en") for clip in clips]
        in_pytorch = in_pytorch or texts
        same = sum(one == other for one, other in zip(texts, in_pytorch, strict=True))
        found[name] = {
            "wer": word_errors(references, texts).rate,
            "same": same / len(texts),
            "words": sum(len(sentence.split()) for sentence in references),
        }
    return found


def show(name: str, utterances: int, found: dict[str, dict[str, float]]) -> None:
    """Print the table of a set."""
    words = next(iter(found.values()))["words"]
    table = Table(title=f"{name}: {utterances} utterances, {words} words")
    for heading in ("runtime", "WER in %", "difference from PyTorch in points", "same transcripts in %"):
        table.add_column(heading, justify="left" if heading == "runtime" else "right")
    base = found["PyTorch"]["wer"]
    for runtime, one in found.items():
        difference, same = f"{100 * (one['wer'] - base):+.2f}", f"{100 * one['same']:.1f}"
        table.add_row(runtime, f"{100 * one['wer']:.2f}", difference, same)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
