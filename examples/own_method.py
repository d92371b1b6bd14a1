"""Register a pruning method of your own: here, units leave by the norm of their output weights.

python examples/own_method.py MODEL TRAIN
"""

import sys

import torch

import trimbre
from trimbre.pruning.allocation import plan_for_target, ranks_within
from trimbre.pruning.methods.base import one_shot


class OutputNorm:
    """Keep the units whose columns of the output projection are largest, the same share of every module."""

    TRAINS = False

    def choose(self, model, context, target):
        """Score every unit, then meet the target exactly."""
        scores = []
        for group in target.anatomy.groups:
            weight = model.get_submodule(group.consumer).weight.detach().flatten(1)  # (dim, units * rows)
            scores.append(weight.square().sum(0).reshape(group.size, -1).sum(1).sqrt().double())
        return one_shot(plan_for_target(target, ranks_within(target.anatomy, torch.cat(scores))), target)


if __name__ == "__main__":
    model, train = sys.argv[1:]
    trimbre.register_method("output-norm", OutputNorm())
    config = trimbre.PruneConfig(
        remove=0.3,
        method="output-norm",
        calibration_batches=2,
        recovery=trimbre.RecoveryConfig(steps=0, refit_batches=2),
    )
    result = trimbre.prune(model, train=train, config=config)
    print({name: f"{shares['blocks']:.1%}" for name, shares in result.report["removed"].items()})
