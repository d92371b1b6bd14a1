"""One-shot pruning by activations (Wanda, Sun et al. 2024, over whole units): units of the least energy are cut."""

from transformers import PreTrainedModel

from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Cut the same share of every module: energies of different modules are not comparable."""
    scores = context.activation_scores(model, target)
    return one_shot(plan_for_target(target, ranks_within(target.anatomy, scores)), target)
