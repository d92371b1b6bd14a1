"""Write the model card of the shipped recogniser from its evaluations.

`python recipes/teacher/card.py GREEDY.json GRAPH.json`: the output of `trimbre eval models/telephone-en ... --json`
without and with `--graph`.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimbre.report.formatting import rate

MODEL = Path(__file__).resolve().parent.parent.parent / "models/telephone-en"
SETS = {
    "data": "held-out sentences in held-out synthetic voices",
    "prompts": "real telephone prompts, test split (one speaker, whose other prompts were trained on)",
    "unseen": "sentences of other forms in held-out synthetic voices",
    "readings": "ten real read sentences by other speakers, outside its domain",
}
CARD = """---
library_name: transformers
pipeline_tag: automatic-speech-recognition
language: en
license: cc-by-sa-3.0
tags: [telephone, fastconformer, ctc]
---

# telephone-en

A small FastConformer CTC recogniser (transformers' `ParakeetForCTC`, {parameters:,} parameters, {macs:,.0f}
multiply-accumulates per second of audio) for English telephone speech in a closed domain: menus, spoken numbers,
letters, dates, times and amounts, about 1,350 words. It is the teacher that Trimbre's demo prunes, and no general
recogniser: out of domain its transcripts are wrong.

```python
from transformers import pipeline

pipeline("automatic-speech-recognition", model="models/telephone-en")("call.wav")
```

## Figures

Measured on this file by the last commands of `recipes/teacher/train.sh`; both sides normalised `basic` (lower case,
numbers spelled out, no punctuation), 95 % bootstrap intervals over sentences; substitutions, deletions and insertions.
*By the graph* is the same model decoded with a graph of its domain: {vocabulary:,} words and {ngrams:,} n-grams of up
to {order} words, from the training sentences of the grammar and the training prompts alone (`trimbre graph`).
Nothing else can be recognised with it.

| set | utterances | words | WER in %, greedily | | by the graph | |
|---|---|---|---|---|---|---|
{rows}

Held-out voices: `flite:rms`, `festival:ked_diphone` and eight timbres of espeak-ng in all its accents. A hash of the
sentence decides its split, so no sentence of a dev or test set is in the training data in any voice. (Short ones can be
part of longer training sentences; 27 of the 3,400 held-out ones, 89 words, occur within the joined pieces alone.) The
readings are not split: one of the ten, "five five", is also a sentence of the grammar, and is in the training data in
other voices.

## Data

- In the last three stages, of which the last has {sentences:,} utterances ({hours:.1f} h; the real prompts counted as
  often as they are listed): sentences of the grammar in `recipes/teacher`, the prompts' training transcripts, pieces of
  both in random order, and open English out of Debian's fortunes, spoken by synthetic voices: espeak-ng
  (GPL-3.0-or-later), flite and festival with CMU's and CSTR's voices (BSD-like), SVOX Pico (Apache-2.0), Piper
  (GPL-3.0-or-later) with the voice en_US-joe (MIT, CC0 upstream). The licences are those of the programs and voices,
  not of what they say. The earlier stages were trained on the grammar and the prompts alone.
- Real recordings: the Asterisk core sounds in English, spoken by Allison Smith, CC BY-SA 3.0, from Debian's packages
  `asterisk-core-sounds-en` and `asterisk-core-sounds-en-g722`; and sentences that `recipes/teacher/units.py` made of
  half-phones of the training prompts by unit selection, so that no prompt is memorised as a whole.

Augmentation: vocal tract length of the synthetic voices (up to 15 % longer or shorter, per sentence), speed, room
impulse responses, noise, telephone bands and, in all stages but the last, SpecAugment.

## How it was made

`recipes/teacher/train.sh`: {stages} stages, {steps:,} steps and {minutes:.0f} minutes on 2 cores, {seen:.0f} hours
of audio seen; the weights are the mean of those before and after the last stage. `train.json` has every option of the
last stage, the commands of the earlier ones and the curve on dev, which is the last stage's own and not the mean's.
Piper's noise is not seeded, so its clips differ from run to run.

## Licence

CC BY-SA 3.0, the licence of the recorded prompts in its training data.
"""


def main() -> None:
    """Read two evaluations and write README.md beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("greedy", type=Path, help="output of trimbre eval --json")
    parser.add_argument("graph", type=Path, help="the same with --graph")
    given = parser.parse_args()
    found: dict[str, Any] = json.loads(given.greedy.read_text())
    by_graph: dict[str, Any] = json.loads(given.graph.read_text())
    trained = json.loads((MODEL / "train.json").read_text())
    stages = [*trained["earlier"], trained]
    rows = []
    for name, one in found["sets"].items():
        rates = f"{cells(one['wer'])} | {cells(by_graph['sets'][name]['wer'])}"
        rows.append(f"| {SETS[name]} | {one['utterances']} | {one['wer']['reference']} | {rates} |")
    card = CARD.format(
        parameters=found["size"]["parameters"],
        macs=found["size"]["macs_per_second"],
        rows="\n".join(rows),
        vocabulary=by_graph["graph"]["words"],
        ngrams=by_graph["graph"]["ngrams"],
        order=by_graph["graph"]["order"],
        sentences=trained["data"]["utterances"],
        hours=trained["data"]["hours"],
        stages=len(stages),
        steps=sum(stage["steps"] for stage in stages),
        minutes=sum(stage["minutes"] for stage in stages),
        seen=sum(stage["audio_seconds"] for stage in stages) / 3600,
    )
    (MODEL / "README.md").write_text(card)


def cells(wer: Mapping[str, Any]) -> str:
    """Two cells: the rate with its interval, and the counts of substitutions, deletions and insertions."""
    return f"{rate(wer)} | {wer['substitutions']} / {wer['deletions']} / {wer['insertions']}"


if __name__ == "__main__":
    main()
