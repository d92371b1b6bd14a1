"""README.md of an exported directory: how to load it, its inputs and outputs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimbre.evaluation.units import UNITS

CTC = {
    "onnx": """\
from itertools import groupby

import onnxruntime
from transformers import AutoProcessor

processor = AutoProcessor.from_pretrained(".")
session = onnxruntime.InferenceSession("{files[model]}")
features = processor.feature_extractor(samples, sampling_rate={sampling_rate}, return_tensors="np")
types = {{"tensor(float)": "float32", "tensor(int64)": "int64"}}
(logits,) = session.run(None, {{one.name: features[one.name].astype(types[one.type]) for one in session.get_inputs()}})
labels = [label for label, _ in groupby(logits[0].argmax(-1)) if label != {blank}]
text = processor.tokenizer.decode(labels, group_tokens=False)
""",
    "sherpa-onnx": """\
import numpy as np
import sherpa_onnx

recognizer = sherpa_onnx.OfflineRecognizer.from_nemo_ctc(
    "{files[model]}", "tokens.txt", feature_dim={mel_bands}
)
stream = recognizer.create_stream()
# sherpa-onnx centres its frames half a hop later than the model was trained with: 5 ms of silence align them
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
WHISPER = {
    "onnx": """\
import json
from pathlib import Path

import numpy as np
import onnxruntime
from transformers import AutoProcessor

processor = AutoProcessor.from_pretrained(".")
rules = json.loads(Path("export.json").read_text())["rules"]
encoder = onnxruntime.InferenceSession("{files[encoder_model]}")
decoder = onnxruntime.InferenceSession("{files[decoder_model_merged]}")
past = [one for one in decoder.get_inputs() if one.name.startswith("past_key_values.")]
caches = {{one.name: np.zeros((0, one.shape[1], 0, one.shape[3]), dtype=np.float32) for one in past}}
features = processor.feature_extractor(samples, sampling_rate={sampling_rate}, return_tensors="np").input_features
(hidden,) = encoder.run(None, {{"input_features": features}})


def following(tokens, caches):
    used = any(len(cache) for cache in caches.values())
    given = {{"input_ids": np.array([tokens]), "encoder_hidden_states": hidden, "use_cache_branch": np.array([used])}}
    logits, *made = decoder.run(None, given | caches)
    # an empty cache comes out where the one that went in stays as it is
    renewed = {{name: new if len(new) else caches[name] for name, new in zip(caches, made)}}
    return logits[0, -1], renewed


tokens = list(rules["prompt"])
if None in tokens:  # the language is detected
    scores, _ = following([rules["start"]], caches)
    tokens[1] = max(rules["languages"].values(), key=lambda token: scores[token])
begun, penalty, size = len(tokens), rules["repetition_penalty"], rules["no_repeat_ngram_size"]
scores, caches = following(tokens, caches)
scores[rules["not_first"]] = -np.inf
while len(tokens) < rules["most"]:
    used = np.unique(tokens)
    scores[used] = np.where(scores[used] < 0, scores[used] * penalty, scores[used] / penalty)
    for start in range(len(tokens) - size + 1 if size else 0):
        if tokens[start : start + size - 1] == tokens[len(tokens) - size + 1 :]:
            scores[tokens[start + size - 1]] = -np.inf
    scores[rules["never"]] = -np.inf
    token = int(scores.argmax())
    if token == rules["end"]:
        break
    tokens.append(token)
    scores, caches = following([token], caches)
text = processor.tokenizer.decode(tokens[begun:], skip_special_tokens=True).strip()
""",
    "onnx-asr": """\
import onnx_asr

model = onnx_asr.load_model("whisper", "."{quantization})
text = model.recognize(samples, sample_rate={sampling_rate})
""",
}
TRANSDUCER = {
    "onnx": """\
import json
from pathlib import Path

import numpy as np
import onnxruntime
from transformers import AutoProcessor

processor = AutoProcessor.from_pretrained(".")
columns = json.loads(Path("export.json").read_text())["columns"]
encoder = onnxruntime.InferenceSession("{files[encoder-model]}")
decoder = onnxruntime.InferenceSession("{files[decoder_joint-model]}")
features = processor.feature_extractor([samples], sampling_rate={sampling_rate}, return_tensors="np")
audio = features.input_features.astype(np.float32).transpose(0, 2, 1)
length = features.attention_mask.sum(-1).astype(np.int64)
states, (frames,) = encoder.run(None, {{"audio_signal": audio, "length": length}})

blank, durations, most = {last}, {durations}, {most}
tokens, last, frame, repeated = [], blank, 0, 0
text_states = [np.zeros(({layers}, 1, {dim}), dtype=np.float32)] * 2
for _ in range(most * frames - 1):
    given = {{
        "encoder_outputs": states[:, :, frame : frame + 1],
        "targets": np.array([[last]], dtype=np.int32),
        "target_length": np.ones(1, dtype=np.int32),
        "input_states_1": text_states[0],
        "input_states_2": text_states[1],
    }}
    logits, _, *renewed = decoder.run(None, given)
    scores = logits.flatten()
    best = int(scores[: blank + 1].argmax())
    onward = durations[scores[blank + 1 :].argmax()] if durations else 0
    if best == blank:
        onward = max(onward, 1)
    else:
        tokens.append(columns[best])
        last, text_states, repeated = best, renewed, repeated + 1
        if not durations and repeated == most:
            onward = 1
    frame, repeated = frame + onward, 0 if onward else repeated
    if frame >= frames:
        break
text = processor.tokenizer.decode(tokens, skip_special_tokens=True, group_tokens=False)
""",
    "sherpa-onnx": """\
import numpy as np
import sherpa_onnx

recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(
    "{files[encoder]}",
    "{files[decoder]}",
    "{files[joiner]}",
    "tokens.txt",
    feature_dim={mel_bands},
    model_type="nemo_transducer",
)
stream = recognizer.create_stream()
# sherpa-onnx centres its frames half a hop later than the model was trained with: 5 ms of silence align them
stream.accept_waveform({sampling_rate}, np.append(np.zeros(80, dtype=np.float32), samples))
recognizer.decode_stream(stream)
text = stream.result.text
""",
    "onnx-asr": """\
import onnx_asr

model = onnx_asr.load_model("{kind}", "."{quantization})
text = model.recognize(samples, sample_rate={sampling_rate})
""",
}
WAYS = {"ctc": CTC, "transducer": TRANSDUCER, "whisper": WHISPER}
CTC_ROWS = {
    "input_features": ("float32", "batch, mel frames, {mel_bands}", "output of the processor's feature extractor"),
    "input_values": ("float32", "batch, samples", "output of the processor's feature extractor"),
    "attention_mask": ("int64", "batch, as many as the input", "1 on audio, 0 on padding"),
    "audio_signal": ("float32", "batch, {mel_bands}, mel frames", "NeMo's features, normalised per feature"),
    "length": ("int64", "batch", "mel frames of each utterance that are not padding"),
    "logits": ("float32", "batch, frames, {labels}", "a score for every label; label {blank} is the blank"),
    "logprobs": ("float32", "batch, frames, {labels}", "log-probabilities; the last label is the blank"),
}
WHISPER_ROWS = {
    "input_features": ("float32", "batch, {mel_bands}, {mel_frames}", "output of the processor's feature extractor"),
    "last_hidden_state": ("float32", "batch, {positions}, {dim}", "encoder output"),
    "input_ids": ("int64", "batch, tokens", "the prompt or, with caches, the tokens after it"),
    "encoder_hidden_states": ("float32", "batch, {positions}, {dim}", "encoder output"),
    "use_cache_branch": ("bool", "1", "false in the first call for a text, when all caches are empty"),
    "past_key_values.*": ("float32", "batch, heads, positions, head size", "caches; empty ones may have a batch of 0"),
    "logits": ("float32", "batch, tokens, {labels}", "scores of the next token after each token"),
    "present.*": (
        "float32",
        "batch, heads, positions, head size",
        "the new caches; keep the old one for a batch of 0",
    ),
}
TRANSDUCER_ROWS = {
    "audio_signal": CTC_ROWS["audio_signal"],
    "length": CTC_ROWS["length"],
    "encoder_outputs": ("float32", "batch, {dim}, 1", "encoder output at one frame"),
    "decoder_outputs": ("float32", "batch, {dim}, 1", "output of the prediction network"),
    "targets": ("int32", "batch, 1", "the last token of each text, at first the blank, {last}"),
    "target_length": ("int32", "batch", "1"),
    **{
        f"input_states_{number}": ("float32", "{layers}, batch, {dim}", "what LSTMs hold of the text, at first zeros")
        for number in (1, 2)
    },
    "outputs": ("float32", "as its graph's", "encoder or prediction output, or {logits} logits, durations last"),
    "encoded_lengths": ("int64", "batch", "frames of each utterance that are not padding"),
    "prednet_lengths": ("int32", "batch", "1"),
    **{
        f"output_states_{number}": ("float32", "{layers}, batch, {dim}", "the same after the token")
        for number in (1, 2)
    },
}
ROWS = {"ctc": CTC_ROWS, "transducer": TRANSDUCER_ROWS, "whisper": WHISPER_ROWS}


def card(described: Mapping[str, Any]) -> str:
    """The text of README.md, from the content of export.json."""
    values = {
        **described,
        "last": described.get("labels", 1) - 1,
        "quantization": ', quantization="int8"' if described["precision"] == "int8" else "",
    }
    rows = [
        f"| `{name}` | {type} | ({shape.format(**values)}) | {meaning.format(**values)} |"
        for name in (*described["inputs"], *described["outputs"])
        for type, shape, meaning in (ROWS[described["family"]][name],)
    ]
    rates = [
        f"- {precision}: {found['percent']:.2f} % {found['rate'].upper()} "
        f"on {found['reference']} {UNITS[found['rate']]}"
        for precision, found in described["wer"].items()
    ]
    title = f"# {Path(described['model']).name} for {described['to']}, {described['precision']}"
    files = " and ".join(f"`{file}`" for file in described["files"].values())
    hold, give = ("holds", "it gives") if len(described["files"]) == 1 else ("hold", "they give")
    intro = (
        f"Exported by Trimbre. {files} {hold} {described['bytes']:,} bytes. In float32 "
        f"{give} the model's outputs, within {described['equal_to_model_within']:.0e} of their norm."
    )
    python = WAYS[described["family"]][described["to"]].format(**values)
    front = ["---", f"language: {described['language']}", "---", ""] if described["language"] else []
    return "\n".join(
        [
            *front,
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
            "from trimbre.inference.long_form import transcriber",
            "",
            'text = transcriber(*load_exported("."))(samples)',
            "```",
            "",
            "| | type | shape | |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
