#!/usr/bin/env bash
# Makes models/telephone-en from nothing: sentences, voices, prompts, training, figures.
# Needs trimbre with its `voices` and `pico` extras on the PATH, and espeak-ng, flite, festival and its English voices
# (Debian: espeak-ng flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts).
set -euo pipefail
cd "$(dirname "$0")/../.."

# Speakers that are never trained on. rms and ked are speakers of their own; the others are timbres of espeak-ng.
HELD_OUT=(flite:rms festival:ked_diphone espeak-ng:*+m7 espeak-ng:*+f4 espeak-ng:*+Linda espeak-ng:*+Michael
  espeak-ng:*+Quincy espeak-ng:*+klatt3 espeak-ng:*+Annie espeak-ng:*+Pedro)

trimbre corpus prompts --language en --out data/en
trimbre corpus readings --out data/readings

# What is said: sentences of the grammar, and the prompts' training transcripts in other voices.
python recipes/teacher/sentences.py --count 90000 --seed 1 --with-transcripts data/en/train --repeats 12 --out data/sentences.txt
python recipes/teacher/sentences.py --count 3000 --seed 7 --domain unseen --out data/unseen.txt

# A hash of the sentence decides its split, so no sentence that is judged on is trained on, in any voice.
# The voices that are trained on get longer and shorter vocal tracts; those that are judged on speak as they are.
trimbre corpus voices --sentences data/sentences.txt --splits dev --except "${HELD_OUT[@]}" --limit 600 --seed 3 --out data/dev
trimbre corpus voices --sentences data/sentences.txt --splits train --except "${HELD_OUT[@]}" --tract 0.15 \
  --limit 60000 --seed 1 --out data/voices
trimbre corpus voices --sentences data/sentences.txt --splits test --voices "${HELD_OUT[@]}" --limit 3400 --seed 2 --out data/heldout
trimbre corpus voices --sentences data/unseen.txt --whole --voices "${HELD_OUT[@]}" --limit 500 --seed 4 --out data/unseen

# What is trained: first to hear letters, which CTC aligns within minutes; then to write whole words, which don't get
# misspelled. The real prompts are few, so they're heard more often than the synthetic voices.
PROMPTS=data/en/train
FEW=$PROMPTS,$PROMPTS,$PROMPTS,$PROMPTS
TRAIN=data/voices/train,$FEW,$FEW,$FEW,$FEW
DEV=data/dev/dev,data/en/dev
trimbre train --model recipes/teacher/model.json --train "$TRAIN" --dev "$DEV" --out runs/letters \
  --steps 6500 --stop-at 1500 --rate 1.5e-3 --max-duration 64 --workers 1
trimbre train --model runs/letters --vocab-size 1024 --train "$TRAIN" --dev "$DEV" --out runs/words \
  --steps 10000 --stop-at 3200 --rate 1.2e-3 --warmup 300 --short-steps 0 --max-duration 64 --workers 1
# Two processes of one thread each are a third faster here than one of two, for the same 64 s in a step.
OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 -m trimbre train --model runs/words --train "$TRAIN" \
  --dev "$DEV" --out models/telephone-en --half --steps 8000 --rate 1.2e-3 --warmup 100 --short-steps 0 --max-duration 32

# How well it hears: held-out sentences in held-out voices, and speech unlike the training audio.
trimbre eval models/telephone-en --data data/heldout/test \
  --watch prompts=data/en/test unseen=data/unseen readings=data/readings --json | python recipes/teacher/card.py
