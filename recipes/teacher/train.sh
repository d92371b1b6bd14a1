#!/usr/bin/env bash
# Makes models/telephone-en from nothing: sentences, voices, prompts, training, figures.
# Needs trimbre with its `voices` extra on the PATH, and espeak-ng, flite, festival and its English voices
# (Debian: espeak-ng flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts).
set -euo pipefail
cd "$(dirname "$0")/../.."

# Speakers that are never trained on. rms and ked are speakers of their own; the others are timbres of espeak-ng.
HELD_OUT=(flite:rms festival:ked_diphone espeak-ng:*+m7 espeak-ng:*+f4 espeak-ng:*+Linda espeak-ng:*+Michael
  espeak-ng:*+Quincy espeak-ng:*+klatt3 espeak-ng:*+Annie espeak-ng:*+Pedro)

trimbre corpus prompts --language en --out data/en
trimbre corpus readings --out data/readings

# What is said: sentences of the grammar, and the prompts' training transcripts in other voices.
python recipes/teacher/sentences.py --count 34000 --seed 1 --with-transcripts data/en/train --repeats 8 --out data/sentences.txt
python recipes/teacher/sentences.py --count 3000 --seed 7 --domain unseen --out data/unseen.txt

# A hash of the sentence decides its split, so no sentence that is judged on is trained on, in any voice.
trimbre corpus voices --sentences data/sentences.txt --splits train --except "${HELD_OUT[@]}" --seed 1 --out data/voices
trimbre corpus voices --sentences data/sentences.txt --splits dev --except "${HELD_OUT[@]}" --limit 600 --seed 3 --out data/dev
trimbre corpus voices --sentences data/sentences.txt --splits test --voices "${HELD_OUT[@]}" --seed 2 --out data/heldout
trimbre corpus voices --sentences data/unseen.txt --whole --voices "${HELD_OUT[@]}" --limit 500 --seed 4 --out data/unseen
