"""Prune a model in memory, compare it with the dense one, and save it.

python examples/prune.py MODEL TRAIN TEST OUT [--remove 0.5] [--steps 1200]
"""

import argparse

import trimbre

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="directory or Hub id")
parser.add_argument("train", help="manifest or folder, with or without transcripts")
parser.add_argument("test", help="manifest or folder with transcripts")
parser.add_argument("out", help="directory to write")
parser.add_argument("--remove", type=float, default=0.5)
parser.add_argument("--steps", type=int, default=1200)
asked = parser.parse_args()

model, processor = trimbre.load(asked.model)
config = trimbre.PruneConfig(remove=asked.remove, recovery=trimbre.RecoveryConfig(steps=asked.steps))
result = trimbre.prune(model, processor, train=asked.train, config=config)

report = trimbre.evaluate(result.model, processor, data=asked.test, against=model)
print(f"WER {report.sets['data'].evaluation.wer:.2%}")
print(f"saved to {result.save(asked.out)}")
