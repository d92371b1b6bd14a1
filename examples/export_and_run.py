"""Export a model to ONNX and transcribe a file with ONNX Runtime.

python examples/export_and_run.py MODEL AUDIO OUT
"""

import sys

import trimbre
from trimbre.data.audio import read_audio
from trimbre.exporting.runtime import load_exported
from trimbre.inference.long_form import transcriber

model, audio, out = sys.argv[1:]
trimbre.export(model, to="onnx", out=out)
transcribe = transcriber(*load_exported(out, threads=1))
print(transcribe(read_audio(audio, transcribe.rate)))
