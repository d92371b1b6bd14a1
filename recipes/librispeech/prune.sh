#!/usr/bin/env bash
# The setting of Jiang et al. 2023: half of a Conformer CTC on LibriSpeech, judged on dev and test, clean and other.
#
#   recipes/librispeech/prune.sh TREE MODEL OUT [options of trimbre prune]
#
# TREE   a LibriSpeech tree, or the folder that holds it (trimbre corpus librispeech TREE --download --parts ... brings it)
# MODEL  a recogniser that knows English, such as nvidia/parakeet-ctc-0.6b
# OUT    where the pruned model goes
#
# LibriSpeech is CC BY 4.0 (openslr.org/12). Options after OUT take the place of the method, steps and batches that stand
# below, which are a start for one accelerator and were not tuned.
set -euo pipefail
if [ $# -lt 3 ]; then
  echo "usage: $0 TREE MODEL OUT [options of trimbre prune]" >&2
  exit 2
fi
TREE=$1 MODEL=$2 OUT=$3
shift 3
if [ $# -eq 0 ]; then
  set -- --method l0 --learn-steps 4000 --recover-steps 20000 --max-duration 120 --workers 2
fi

trimbre corpus librispeech "$TREE"
if [ -d "$TREE/LibriSpeech" ]; then TREE=$TREE/LibriSpeech; fi
TRAIN=$(printf '%s,' "$TREE"/train-*/)

trimbre prune "$MODEL" --train "${TRAIN%,}" --dev "$TREE/dev-clean" --watch other="$TREE/dev-other" --out "$OUT" \
  --remove 0.5 --control --normalize whisper-en "$@"
trimbre eval "$OUT" --against "$MODEL" --data "$TREE/test-clean" --watch other="$TREE/test-other" --normalize whisper-en
