"""ShortGPT (Men et al. 2024): the blocks that turn their residual stream least are cut."""

from math import isfinite

from transformers import PreTrainedModel

from trimbre.errors import UserError
from trimbre.pruning.allocation import PruningTarget
from trimbre.pruning.methods.base import MethodResult, PruningContext, one_shot
from trimbre.pruning.methods.layers import in_turn
from trimbre.pruning.scores.block_influence import block_influence

TRAINS = False


def choose(model: PreTrainedModel, context: PruningContext, target: PruningTarget) -> MethodResult:
    """Skip blocks in the order of their influence; the last of them is cut in part, so that the target is met.

    The units of that block are cut in the order of their indices.
    """
    influence = block_influence(model, target.free, context.calibration_batches(), reduce_mean=context.mean)
    for block, value in influence.items():
        if not isfinite(value):
            raise UserError(
                f"the influence of {block} is not finite: check that the model's outputs on the training data are"
            )
    order = sorted(influence, key=influence.__getitem__)
    turn = {block: place for place, block in enumerate(order)}
    return one_shot(in_turn(target, [turn.get(group.block, len(order)) for group in target.anatomy.groups]), target)
