#!/usr/bin/env bash
# Trains models/telephone-en from scratch, and models/telephone-en-deep from there: sentences, voices, prompts, training,
# evaluation.
# Needs trimbre with its `voices` and `pico` extras on the PATH, espeak-ng, flite, festival with its English voices, and
# fortunes (Debian: espeak-ng flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts fortunes fortunes-min).
set -euo pipefail
cd "$(dirname "$0")/../.."

# Held-out speakers. rms and ked are separate speakers; the others are timbres of espeak-ng.
HELD_OUT=(flite:rms festival:ked_diphone espeak-ng:*+m7 espeak-ng:*+f4 espeak-ng:*+Linda espeak-ng:*+Michael
  espeak-ng:*+Quincy espeak-ng:*+klatt3 espeak-ng:*+Annie espeak-ng:*+Pedro)

python recipes/corpora/prompts.py --language en --out data/en
python recipes/corpora/readings.py --out data/readings

# Texts: sentences of the grammar, and the training transcripts of the prompts in other voices.
python recipes/teacher/sentences.py --count 90000 --seed 1 --with-transcripts data/en/train --repeats 12 --out data/sentences.txt
python recipes/teacher/sentences.py --count 3000 --seed 7 --domain unseen --out data/unseen.txt

# A hash of the sentence decides its split, so that no evaluated sentence is trained on, in any voice.
# Training voices vary in vocal tract length; evaluation voices are unchanged.
voices() { python recipes/corpora/voices.py "$@"; }
voices --sentences data/sentences.txt --splits dev --except "${HELD_OUT[@]}" --limit 600 --seed 3 --out data/dev
voices --sentences data/sentences.txt --splits train --except "${HELD_OUT[@]}" --tract 0.15 --limit 60000 --seed 1 \
  --out data/voices
voices --sentences data/sentences.txt --splits test --voices "${HELD_OUT[@]}" --limit 3400 --seed 2 --out data/heldout
voices --sentences data/unseen.txt --whole --voices "${HELD_OUT[@]}" --limit 500 --seed 4 --out data/unseen

# First letters, which CTC aligns within minutes; then word pieces, which are spelled correctly. The real prompts are
# few, so they are repeated more often than the synthetic voices.
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
  --dev "$DEV" --out runs/telephone --half --steps 8000 --rate 1.2e-3 --warmup 100 --short-steps 0 --max-duration 32

# This model overfits to whole prompts (2.8 % WER on training prompts, 32 % on others) and to the order of words. The
# next stages add words in random order, new sentences in the voice of the prompts and some open English. With so much data
# there is no dropout.
python recipes/teacher/fragments.py --sentences data/sentences.txt --cuts data/en/train --count 45000 --seed 1 \
  --out data/fragments.txt
python recipes/whisper/sentences.py --plain --out data/open.txt
shuf --random-source=<(yes) data/sentences.txt > data/sentences-drawn.txt
shuf --random-source=<(yes 2) data/open.txt > data/open-drawn.txt
tail -n 9000 data/open-drawn.txt > data/open-last.txt
tail -n 15000 data/fragments.txt > data/fragments-last.txt
say() { # OUT SENTENCES COUNT SEED VOICE...
  voices --sentences "$2" --splits train --voices "${@:5}" --except "${HELD_OUT[@]}" --tract 0.15 --limit "$3" \
    --seed "$4" --out "$1"
}
say data/quick data/sentences-drawn.txt 45000 41 "espeak-ng:*" "flite:*"
say data/slow data/sentences-drawn.txt 7000 42 "pico:*" "festival:*" "piper:*"
say data/fragments-quick data/fragments.txt 20000 45 "espeak-ng:*" "flite:*"
say data/fragments-slow data/fragments-last.txt 4000 46 "pico:*" "festival:*" "piper:*"
say data/open-flite data/open-drawn.txt 8000 43 "flite:*" "pico:*"
say data/open-slow data/open-last.txt 2000 44 "festival:*" "piper:*"
speak() { # OUT SENTENCES COUNT SEED
  python recipes/teacher/units.py --recordings data/en/train --sentences "$2" --limit "$3" --seed "$4" --out "$1"
}
speak data/fragments-units data/fragments.txt 12000 1
speak data/units data/sentences.txt 4000 2
speak data/open-units data/open-drawn.txt 4000 3
TRAIN=$FEW,$FEW
for set in quick slow units fragments-quick fragments-slow fragments-units open-flite open-slow open-units; do
  TRAIN=$TRAIN,data/$set/train
done
sed -i 's/"dropout": 0.1/"dropout": 0.0/' runs/telephone/config.json
OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 -m trimbre train --model runs/telephone --train "$TRAIN" \
  --dev "$DEV" --out runs/spoken --half --steps 9000 --rate 1.2e-3 --warmup 100 --short-steps 0 \
  --max-duration 32 --validate-every 900

# The same again with twice as many synthesised sentences in the voice of the prompts, and more of the prompts.
OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 -m trimbre train --model runs/spoken \
  --train "$FEW,data/units/train,data/fragments-units/train,$TRAIN" --dev "$DEV" --out runs/more --half \
  --steps 8500 --rate 1e-3 --warmup 100 --short-steps 0 --max-duration 32 --validate-every 850 --seed 1

# Then new samples in other voices, without masks and with half of the noise: a model this small underfits with more.
say data/again-quick data/sentences-drawn.txt 20000 61 "espeak-ng:*" "flite:*"
say data/again-slow data/sentences-drawn.txt 2600 62 "pico:*" "festival:*" "piper:*"
say data/again-fragments-quick data/fragments.txt 10000 65 "espeak-ng:*" "flite:*"
say data/again-fragments-slow data/fragments-last.txt 1400 66 "pico:*" "festival:*" "piper:*"
speak data/again-fragments-units data/fragments.txt 16000 4
speak data/again-units data/sentences.txt 4000 5
speak data/again-open-units data/open-drawn.txt 4000 6
TRAIN=$FEW,$FEW
for set in units fragments-units quick fragments-quick open-units slow fragments-slow; do
  TRAIN=$TRAIN,data/again-$set/train
done
OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 -m trimbre train --model runs/more --train "$TRAIN" \
  --dev "$DEV" --out runs/plain --half --steps 5200 --rate 8e-4 --warmup 100 --short-steps 0 --max-duration 32 \
  --validate-every 1000 --seed 2 --time-masks 0 --mel-masks 0 --noise 0.1
python recipes/teacher/mean.py runs/more runs/plain --share 0.5 --out runs/four-blocks
cp runs/four-blocks/{*.json,model.safetensors} models/telephone-en/  # the card stays

# The figures of its card: held-out sentences in held-out voices, and speech out of domain; greedily and by a graph.
trimbre graph models/telephone-en --sentences data/sentences.txt --splits train --transcripts data/en/train \
  --out data/graph
evaluate() {
  trimbre eval models/telephone-en --data data/heldout/test --json \
    --watch prompts=data/en/test unseen=data/unseen readings=data/readings "$@"
}
evaluate > runs/greedy.json
evaluate --graph data/graph > runs/by-graph.json

# What was made so far has 4 blocks and knows one real voice. From here on it has 8, which compute the same at first, and
# trains on real people too. SPEECH is a folder of AN4, speechocean762 and LJ Speech: AudioFolders an4/train, an4/test and
# so on, with a column `speaker`. No synthetic voice says a sentence of these tests.
python recipes/teacher/grow.py runs/four-blocks --out runs/grown
python recipes/teacher/real.py --speech "${SPEECH:?the folder of an4, so762 and lj}" --out data/real
AN4=data/real/an4/train
python recipes/teacher/fragments.py --sentences data/sentences.txt --cuts $AN4 --count 12000 --seed 5 \
  --out data/spelled.txt
for text in sentences fragments spelled open; do
  grep -vxF -f data/real/judged.txt data/$text.txt | shuf --random-source=<(yes 3) > data/$text-unjudged.txt
done
say data/deep-quick data/sentences-unjudged.txt 16000 141 "espeak-ng:*" "flite:*"
tail -n 40000 data/sentences-unjudged.txt > data/sentences-later.txt
say data/deep-again data/sentences-later.txt 8000 161 "espeak-ng:*" "flite:*"
say data/deep-spelled data/spelled-unjudged.txt 5000 142 "espeak-ng:*" "flite:*"
say data/deep-fragments data/fragments-unjudged.txt 3000 145 "espeak-ng:*" "flite:*"
say data/deep-open data/open-unjudged.txt 1000 143 "flite:*"
speak data/deep-fragments-units data/fragments-unjudged.txt 2500 11
speak data/deep-units data/sentences-unjudged.txt 1500 12
speak data/deep-open-units data/open-unjudged.txt 800 13

# Single words, whole and cut tightly: out of real recordings, and of voices that say nothing else.
tr ' ' '\n' < data/sentences-unjudged.txt | sort | uniq -c | awk '$1 >= 8 {print $2}' > data/vocabulary.txt
tr ' ' '\n' < data/spelled-unjudged.txt | sort -u >> data/vocabulary.txt
for again in 1 2 3; do sort -u data/vocabulary.txt | shuf --random-source=<(yes $again); done > data/single.txt
say data/single data/single.txt 3000 151 "espeak-ng:*" "flite:*"
python recipes/teacher/words.py --recordings $AN4 data/en/train --limit 5000 --seed 1 --out data/words
python recipes/teacher/words.py --recordings data/single/train --limit 5000 --seed 2 --out data/single-words
python recipes/teacher/words.py --recordings data/real/an4/test data/en/test --limit 700 --seed 9 --out data/tight

REAL=$PROMPTS,$FEW,$PROMPTS,$AN4,$AN4,$AN4,data/real/so762/train,data/real/lj/train
DEV=data/dev/dev,data/en/dev,data/real/an4/dev
deepen() { # FROM OUT STEPS RATE TRAIN OPTION...
  OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 -m trimbre train --model "$1" --out "$2" --steps "$3" \
    --rate "$4" --train "$5" --dev "$DEV" --half --short-steps 0 --max-duration 20 --shift 1 --noise 0.1 \
    "${@:6}"
}
deepen runs/grown runs/deep 1200 6e-4 "$REAL,data/deep-quick/train" --telephone 0.15 --warmup 100 --validate-every 300
TRAIN=$REAL,$AN4,data/words,data/single-words
for set in deep-quick deep-spelled single deep-fragments-units deep-units; do TRAIN=$TRAIN,data/$set/train; done
deepen runs/deep runs/deeper 1300 5e-4 "$TRAIN" --telephone 0.15 --warmup 50 --validate-every 300 --seed 3

# The sampler shuffles the next 20,000 utterances only, and the last stage sees less than all of them: mixed in advance.
python recipes/teacher/mix.py data/deep-quick/train=5000 data/deep-again/train=4000 data/deep-spelled/train=3000 \
  data/deep-fragments/train=2000 data/single/train=2000 data/words=4500 data/single-words=2000 \
  data/deep-fragments-units/train=2500 data/deep-units/train=1499 data/deep-open-units/train=790 \
  data/deep-open/train=500 $PROMPTS=1712 $AN4=1768 data/real/so762/train=900 data/real/lj/train=199 \
  --seed 5 --out data/mix
PLAIN=(--allow-outside --time-masks 0 --mel-masks 0)
deepen runs/deeper runs/deepest 1250 4e-4 data/mix "${PLAIN[@]}" --telephone 0.15 --warmup 50 --validate-every 300 --seed 4

# The mean of the last two, which is better than either on dev; and on at a small rate, with more prompts.
python recipes/teacher/mean.py runs/deeper runs/deepest --share 0.6 --out runs/mean
python recipes/teacher/mix.py data/deep-quick/train=3000 data/deep-again/train=4000 data/deep-spelled/train=2000 \
  data/deep-fragments/train=1000 data/single/train=1500 data/words=2500 data/single-words=1500 \
  data/deep-fragments-units/train=2500 data/deep-units/train=1499 data/deep-open-units/train=790 $PROMPTS=2140 \
  $AN4=1768 data/real/so762/train=300 data/real/lj/train=50 --seed 6 --out data/mix-last
PLAIN+=(--warmup 20 --telephone 0.1 --average 0.99 --validate-every 1000)
deepen runs/mean runs/last 420 2e-4 data/mix-last "${PLAIN[@]}" --seed 5
cp runs/last/{*.json,model.safetensors} models/telephone-en-deep/

# Error rates by greedy decoding, also with frames that begin half a hop later: on real people, and on the sentences and
# held-out voices of the demo, which has no festival.
python recipes/teacher/sentences.py --count 20000 --seed 11 --out data/demo.txt
python recipes/teacher/sentences.py --count 300 --seed 12 --domain unseen --out data/demo-unseen.txt
DEMO=(flite:rms "${HELD_OUT[@]:2}")
voices --sentences data/demo.txt --splits test --voices "${DEMO[@]}" --out data/demo-heldout
voices --sentences data/demo-unseen.txt --whole --voices "${DEMO[@]}" --out data/demo-unseen
for model in telephone-en telephone-en-deep; do
  python recipes/teacher/judge.py models/$model --out recipes/teacher/judged/$model.json --set \
    data=data/demo-heldout/test an4=data/real/an4/test prompts=data/en/test tight=data/tight unseen=data/demo-unseen \
    so762=data/real/so762/test lj=data/real/lj/test readings=data/readings
done
python recipes/teacher/card.py --judged recipes/teacher/judged/telephone-en-deep.json \
  --before recipes/teacher/judged/telephone-en.json --real data/real/real.json
