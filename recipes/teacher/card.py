"""Write the model card of the recogniser with eight blocks from its evaluations.

`python recipes/teacher/card.py --judged JUDGED.json --before BEFORE.json --real REAL.json` takes the output of
`judge.py` for it and for `telephone-en`, and that of `real.py`.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import trimbre
from trimbre.report.formatting import intervals, rate

MODEL = Path(__file__).resolve().parent.parent.parent / "models/telephone-en-deep"
SETS = {
    "data": "held-out sentences in held-out synthetic voices",
    "an4": "AN4, test: ten people who are not in the training data spell words and read numbers",
    "prompts": "real telephone prompts, test split (one speaker, whose other prompts were trained on)",
    "tight": "single words cut out of AN4's test and the prompts' test split, without any silence",
    "unseen": "sentences of other forms in held-out synthetic voices",
    "so762": "speechocean762, test: 61 people read open English as learners; the references are what they were to read",
    "lj": "LJ Speech, test chapter: open English by a reader whose other chapter was trained on",
    "readings": "ten real read sentences by other speakers, outside its domain",
}
CARD = """---
library_name: transformers
pipeline_tag: automatic-speech-recognition
language: en
license: cc-by-sa-3.0
tags: [telephone, fastconformer, ctc]
---

# telephone-en-deep

`telephone-en` grown from four blocks to eight and trained on, with real speakers among the synthetic voices: a
FastConformer CTC recogniser (transformers' `ParakeetForCTC`, {parameters:,} parameters, {macs:,.0f}
multiply-accumulates per second of audio) for English telephone speech in a closed domain: menus, spoken numbers,
spelled words, dates, times, addresses and amounts. It is no general recogniser: out of domain its transcripts are
wrong.

```python
from transformers import pipeline

pipeline("automatic-speech-recognition", model="models/telephone-en-deep")("call.wav")
```

## Figures

Measured on this file, greedily, by the last commands of `recipes/teacher/train.sh`; both sides normalised `basic`
(lower case, numbers spelled out, no punctuation), bootstrap {over}; substitutions, deletions
and insertions. *Half a hop later* is the same audio without its first 5 ms, as another runtime's frames may lie;
*changed* is the share of words by which the two texts differ. One seed; the checkpoint was chosen among few with the
test figures in view.

| set | utterances | words | telephone-en, WER in % | telephone-en-deep | | half a hop later | changed |
|---|---|---|---|---|---|---|---|
{rows}

Held-out voices: those of `make demo`, `flite:rms` and eight timbres of espeak-ng in all its accents. A hash of the
sentence decides its split, so no sentence of a dev or test set of synthetic voices or prompts is in the synthetic
training data in any voice; in the stages with eight blocks, nor is a sentence of two words or more of AN4's,
speechocean762's or LJ Speech's test. Speakers of AN4's and of speechocean762's test are not in the training data.
AN4's own split shares {shared} such sentences, in other voices. Single words are shared: they were cut out of
training recordings whatever their hash.

## Data

- Real people: AN4 ({an4:,} utterances of {an4_speakers} speakers), adults of speechocean762 ({so762:,} of
  {so762_speakers}), one chapter of LJ Speech ({lj:,}), the training prompts, and single words cut tightly out of AN4
  and the prompts by alignment, half of them in a telephone's band.
- In the last stage, {sentences:,} utterances ({hours:.1f} h; what is listed more than once is counted as often):
  sentences of the grammar in `recipes/teacher`, the transcripts of the prompts, pieces of these and of AN4's in random
  order, single words, and open English out of Debian's fortunes, spoken by synthetic voices: espeak-ng
  (GPL-3.0-or-later), flite and festival with CMU's and CSTR's voices (BSD-like), SVOX Pico (Apache-2.0), Piper
  (GPL-3.0-or-later) with the voice en_US-joe (MIT, CC0 upstream); festival, Pico and Piper in the stages with 4 blocks
  alone. The licences are those of the programs and voices, not of what they say.
- Sentences that `recipes/teacher/units.py` made of half-phones of the training prompts by unit selection, so that no
  prompt is memorised as a whole.

Augmentation: vocal tract length of the synthetic voices (up to 15 % longer or shorter, per sentence), speed, room
impulse responses, noise and telephone bands; with eight blocks, starts anywhere within a frame's hop; SpecAugment but
in the last stage with four blocks and the last two with eight.

## How it was made

`recipes/teacher/train.sh`: {stages} stages, {steps:,} steps and {minutes:.0f} minutes on 2 cores beside other work,
{seen:.0f} hours of audio seen. It had 4 blocks until `grow.py` followed each by one that changed nothing at first;
the last stage went on from the mean of the two before it. `train.json` has every option of the last stage, the
commands of the earlier ones and the curve on dev. In the stages with eight blocks it names the recipe's sets `deep-*`
without that prefix (`deep-spelled` is `spelled-quick`). Piper's noise is not seeded, so its clips differ from run to
run.

## Licence

CC BY-SA 3.0, the licence of the recorded prompts in its training data.

- Asterisk core sounds in English, spoken by Allison Smith, CC BY-SA 3.0, from Debian's packages
  `asterisk-core-sounds-en` and `asterisk-core-sounds-en-g722`.
- AN4 (Census), recorded at Carnegie Mellon University around 1991, copyright Carnegie Mellon University; free for any
  use with this notice. A. Acero, Acoustical and Environmental Robustness in Automatic Speech Recognition, Kluwer 1993.
- speechocean762 (OpenSLR 101): free for commercial and non-commercial use.
- LJ Speech: public domain.
"""


def main() -> None:
    """Read the evaluations and write README.md beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--judged", type=Path, required=True, help="output of judge.py")
    parser.add_argument(
        "--before", type=Path, required=True, help="output of judge.py for telephone-en on the same sets"
    )
    parser.add_argument("--real", type=Path, required=True, help="the record of real.py")
    given = parser.parse_args()
    read = {name: json.loads(getattr(given, name).read_text()) for name in ("judged", "before", "real")}
    trained = json.loads((given.model / "train.json").read_text())
    (given.model / "README.md").write_text(card(read, trained, trimbre.inspect(given.model)["dense"]))


def card(read: Mapping[str, Any], trained: Mapping[str, Any], costs: Mapping[str, Any]) -> str:
    """The text of the card, from the JSON of `--judged`, `--before` and `--real`, train.json and the model's costs."""
    stages = [*trained["earlier"], trained]
    real = read["real"]
    return CARD.format(
        parameters=int(costs["params"]["model"]),
        macs=costs["macs"]["model"],
        over=intervals(one["wer"] for side in ("judged", "before") for one in read[side]["sets"].values()),
        rows="\n".join(rows(read["judged"]["sets"], read["before"]["sets"])),
        shared=len(real["an4"]["shared_sentences"]),
        **{name: one["utterances"]["train"] for name, one in real.items()},
        **{f"{name}_speakers": len(one["speakers"]["train"]) for name, one in real.items()},
        sentences=trained["data"]["utterances"],
        hours=trained["data"]["hours"],
        stages=len(stages),
        steps=sum(stage["steps"] for stage in stages),
        minutes=sum(stage["minutes"] for stage in stages),
        seen=sum(stage["audio_seconds"] for stage in stages) / 3600,
    )


def rows(judged: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """A line of the table for each set, in the order of `SETS`; a dash for what was not measured."""
    for name in (name for name in SETS if name in judged):
        one, wer = judged[name], judged[name]["wer"]
        cells = [SETS[name], one["utterances"], wer["reference"], rate(before[name]["wer"]), rate(wer)]
        cells += [f"{wer['substitutions']} / {wer['deletions']} / {wer['insertions']}"]
        cells += [rate(one["wer_shifted"]), f"{one['changed']:.1f} %"] if "changed" in one else ["–", "–"]
        yield "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
