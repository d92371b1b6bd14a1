"""Load a pruned checkpoint in three ways, and transcribe a file.

python examples/load_pruned.py PRUNED AUDIO
"""

import sys

from transformers import AutoModelForCTC, pipeline

import trimbre
from trimbre.data.audio import read_audio

path, audio = sys.argv[1:]

model, processor = trimbre.load(path)  # 1. Trimbre
for transcript in trimbre.transcribe(model, processor, files=[audio]):
    print(transcript.text)

import trimbre.auto  # noqa: E402  2. transformers' own classes, once this is imported

print(type(AutoModelForCTC.from_pretrained(path)).__name__)
recogniser = pipeline("automatic-speech-recognition", model=path)
print(recogniser(read_audio(audio, recogniser.feature_extractor.sampling_rate))["text"])

# 3. where Trimbre is not installed, with the code that the checkpoint carries
print(type(AutoModelForCTC.from_pretrained(path, trust_remote_code=True)).__name__)
