"""README.md of an exported directory: how to load it, what goes in and what comes out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

WAYS = {
    "onnx": """\
from itertools import groupby

import onnxruntime
from transformers import AutoProcessor

processor = AutoProcessor.from_pretrained(".")
session = onnxruntime.InferenceSession("{file}")
heard = processor.feature_extractor(samples, sampling_rate={sampling_rate}, return_tensors="np")
types = {{"tensor(float)": "float32", "tensor(int64)": "int64"}}
(logits,) = session.run(None, {{one.name: heard[one.name].astype(types[one.type]) for one in session.get_inputs()}})
labels = [label for label, _ in groupby(logits[0].argmax(-1)) if label != {blank}]
text = processor.tokenizer.decode(labels, group_tokens=False)
""",
    "sherpa-onnx": """\
import numpy as np
import sherpa_onnx

recognizer = sherpa_onnx.OfflineRecognizer.from_nemo_ctc("{file}", "tokens.txt", feature_dim={mel_bands})
stream = recognizer.create_stream()
# sherpa-onnx centres its frames half a hop later than the model learned: 5 ms of silence bring them together
stream.accept_waveform({sampling_rate}, np.append(np.zeros(80, dtype=np.float32), samples))
recognizer.decode_stream(stream)
text = stream.result.text
""",
    "onnx-asr": """\
import onnx_asr

model = onnx_asr.load_model("nemo-conformer-ctc", "."{quantization})
text = model.recognize(samples, sample_rate={sampling_rate})
""",
}
ROWS = {
    "input_features": ("float32", "batch, mel frames, {mel_bands}", "what the processor's feature extractor gives"),
    "input_values": ("float32", "batch, samples", "what the processor's feature extractor gives"),
    "attention_mask": ("int64", "batch, as many as the input", "1 where there is speech, 0 where there is padding"),
    "audio_signal": ("float32", "batch, {mel_bands}, mel frames", "NeMo's features, normalised per feature"),
    "length": ("int64", "batch", "mel frames of each utterance that are not padding"),
    "logits": ("float32", "batch, frames, {labels}", "a score for every label; label {blank} is the blank"),
    "logprobs": ("float32", "batch, frames, {labels}", "logarithms of probabilities; the last label is the blank"),
}


def card(described: Mapping[str, Any]) -> str:
    """The text of README.md, from what stands in export.json."""
    values = {
        **described,
        "labels": len(described["columns"]),
        "quantization": ', quantization="int8"' if described["precision"] == "int8" else "",
    }
    rows = [
        f"| `{name}` | {type} | ({shape.format(**values)}) | {meaning.format(**values)} |"
        for name in (*described["inputs"], *described["outputs"])
        for type, shape, meaning in (ROWS[name],)
    ]
    rates = [
        f"- {precision}: {words['percent']:.2f} % WER on {words['reference']} words"
        for precision, words in described["wer"].items()
    ]
    title = f"# {Path(described['model']).name} for {described['to']}, {described['precision']}"
    intro = (
        f"Exported by Trimbre. `{described['file']}` holds {described['bytes']:,} bytes. In float32 "
        f"it gives what the model gives, within {described['equal_to_model_within']:.0e} of the output's norm."
    )
    python = WAYS[described["to"]].format(**values)
    return "\n".join(
        [
            title,
            "",
            intro,
            "",
            *([*rates, ""] if rates else []),
            f"`samples` being mono audio at {described['sampling_rate']} Hz as float32:",
            "",
            f"```python\n{python}```",
            "",
            "Or, for audio of any length, with Trimbre:",
            "",
            "```python",
            "from trimbre.exporting.runtime import load_exported",
            "from trimbre.transcription import listener",
            "",
            'text = listener(*load_exported("."))(samples)',
            "```",
            "",
            "| | type | shape | |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
