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

# What is trained: first with strong augmentation, until words are spelled by their sound; then with less of it.
# The real prompts are few, so they're heard more often than the synthetic voices.
PROMPTS=data/en/train
FEW=$PROMPTS,$PROMPTS,$PROMPTS,$PROMPTS
DEV=data/dev/dev,data/en/dev
trimbre train --model recipes/teacher/model.json --train "data/voices/train,$FEW" --dev "$DEV" --out runs/first \
  --steps 6500 --stop-at 1750 --rate 1.5e-3 --max-duration 96 --workers 1 \
  --speed 0.5 --room 0.3 --noise 0.5 --snr 5 30 --telephone 0.2 --time-masks 2 --mel-masks 2
MANY=data/voices/train,$FEW,$FEW
trimbre train --model runs/first --train "$MANY" --dev "$DEV" --out runs/second \
  --steps 7000 --stop-at 5000 --rate 1.2e-3 --warmup 150 --short-steps 0 --max-duration 64 --workers 1 \
  --speed 0.4 --room 0.15 --noise 0.3 --snr 10 30 --telephone 0.1 --time-masks 1 --mel-masks 1
trimbre train --model runs/second --train "$MANY" --dev "$DEV" --out models/telephone-en --half \
  --steps 5500 --rate 8e-4 --warmup 100 --short-steps 0 --max-duration 64 --workers 1

# How well it hears: held-out sentences in held-out voices, and speech unlike the training audio.
trimbre eval models/telephone-en --data data/heldout/test \
  --watch prompts=data/en/test unseen=data/unseen readings=data/readings --json | python recipes/teacher/card.py
