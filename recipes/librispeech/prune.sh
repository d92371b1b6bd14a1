#!/usr/bin/env bash
# The setting of Jiang et al. 2023: half of a Conformer CTC on LibriSpeech; evaluation on dev and test, clean and other.
#
#   recipes/librispeech/prune.sh TREE MODEL OUT [options of trimbre prune]
#
# TREE   a LibriSpeech tree, or its parent folder (trimbre corpus librispeech TREE --download --parts ... fetches it)
# MODEL  a recogniser of English, such as nvidia/parakeet-ctc-0.6b
# OUT    directory of the pruned model
#
# LibriSpeech is CC BY 4.0 (openslr.org/12). Options after OUT replace the method, steps and batches below, which are a
# starting point for one accelerator and were not tuned.
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
