"""One-shot pruning by activations: the units that add the least energy to their branch are cut."""

from transformers import PreTrainedModel

from trimbre.pruning.allocation import PruningTarget, plan_for_target, ranks_within
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot
from trimbre.pruning.scores.activation import activation_scores

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Cut the same share of every module: energies of different modules are not comparable."""
    scores = context.scores_of_inputs(activation_scores, model, target)
    return one_shot(plan_for_target(target, ranks_within(target.anatomy, scores)), target)
