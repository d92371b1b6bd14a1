"""Write the model card of the shipped recogniser from its evaluations.

`python recipes/teacher/card.py --greedy GREEDY.json --judged JUDGED.json --real REAL.json [--graph GRAPH.json]` takes
the output of `trimbre eval MODEL ... --json` without and with `--graph`, of `judge.py` and of `real.py`.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trimbre.report.formatting import intervals, rate

MODEL = Path(__file__).resolve().parent.parent.parent / "models/telephone-en"
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
GRAPH_NOTE = """
*By the graph* is the same model decoded with a graph of its domain: {vocabulary:,} words and {ngrams:,} n-grams of up
to {order} words, from the training sentences of the grammar and the training prompts alone (`trimbre graph`). Nothing
else can be recognised with it."""
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
spelled words, dates, times, addresses and amounts. It is the teacher that Trimbre's demo prunes, and no general
recogniser: out of domain its transcripts are wrong.

```python
from transformers import pipeline

pipeline("automatic-speech-recognition", model="models/telephone-en")("call.wav")
```

## Figures

Measured on this file by the last commands of `recipes/teacher/train.sh`; both sides normalised `basic` (lower case,
numbers spelled out, no punctuation), bootstrap {over}; substitutions, deletions and insertions.
*Half a hop later* is the same audio without its first 5 ms, as another runtime's frames may lie; *changed* is the share
of words by which the two texts differ.{graph_note}

| set | utterances | words | WER in %, greedily | | half a hop later | changed |{graph_head}
|---|---|---|---|---|---|---|{graph_line}
{rows}

Held-out voices: `flite:rms` and eight timbres of espeak-ng in all its accents. A hash of the sentence decides its
split, so no sentence of a dev or test set is in the synthetic training data in any voice; nor is a sentence of two
words or more of AN4's, speechocean762's or LJ Speech's test. Speakers of AN4's and of speechocean762's test are not in
the training data. AN4's own split shares {shared} such sentences, in other voices. Single words are shared: they
were cut out of training recordings whatever their hash.

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
impulse responses, noise, telephone bands, starts anywhere within a frame's hop and, in all stages but the last,
SpecAugment.

## How it was made

`recipes/teacher/train.sh`: {stages} stages, {steps:,} steps and {minutes:.0f} minutes on 2 cores, {seen:.0f} hours
of audio seen. It had 4 blocks until `grow.py` followed each by one that changed nothing at first. `train.json` has
every option of the last stage, the commands of the earlier ones and the curve on dev. Piper's noise is not seeded, so
its clips differ from run to run.

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
    parser.add_argument("--greedy", type=Path, required=True, help="output of trimbre eval --json")
    parser.add_argument("--judged", type=Path, required=True, help="output of judge.py on the same sets")
    parser.add_argument("--real", type=Path, required=True, help="the record of real.py")
    parser.add_argument("--graph", type=Path, help="output of trimbre eval --graph --json")
    given = parser.parse_args()
    read = {name: json.loads(path.read_text()) for name, path in vars(given).items() if path and name != "model"}
    trained = json.loads((given.model / "train.json").read_text())
    (given.model / "README.md").write_text(card(read, trained))


def card(read: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    """The text of the card, from the JSON of `--greedy`, `--judged`, `--real` and maybe `--graph`, and train.json."""
    stages = [*trained["earlier"], trained]
    real, graph = read["real"], read.get("graph")
    note = ""
    if graph:
        size = graph["graph"]
        note = GRAPH_NOTE.format(vocabulary=size["words"], ngrams=size["ngrams"], order=size["order"])
    return CARD.format(
        parameters=read["greedy"]["size"]["parameters"],
        macs=read["greedy"]["size"]["macs_per_second"],
        rows="\n".join(rows(read)),
        over=intervals(one["wer"] for one in read["greedy"]["sets"].values()),
        graph_note=note,
        graph_head=" by the graph |" if graph else "",
        graph_line="---|" if graph else "",
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


def rows(read: Mapping[str, Any]) -> Iterator[str]:
    """A line of the table for each set, in the order of `SETS`."""
    greedy, judged = read["greedy"]["sets"], read["judged"]["sets"]
    by_graph = read.get("graph", {}).get("sets")
    for name in (name for name in SETS if name in greedy):
        wer, shifted = greedy[name]["wer"], judged[name]
        cells = [SETS[name], greedy[name]["utterances"], wer["reference"], rate(wer)]
        cells += [f"{wer['substitutions']} / {wer['deletions']} / {wer['insertions']}"]
        cells += [rate(shifted["wer_shifted"]), f"{shifted['changed']:.1f} %"]
        if by_graph is not None:
            cells.append(rate(by_graph[name]["wer"]) if name in by_graph else "–")
        yield "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
