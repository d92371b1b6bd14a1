"""Distillation from the dense model: KL divergence of posteriors, and distance of hidden states layer by layer."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from trimbre.config import DistillationConfig
from trimbre.data.batches import Batch
from trimbre.models.families.registry import head_of
from trimbre.models.positions import valid_frames
from trimbre.models.regularisation import without_regularisation


def posterior_loss(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """KL(teacher || student) in nats per valid frame.

    Args:
        student: (batch, time, vocabulary) logits; so is `teacher`.
        valid: (batch, time) bool, False for padding.
    """
    divergence = functional.kl_div(
        student.float().log_softmax(-1), teacher.float().log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    return (divergence * valid).sum() / valid.sum()


def squared_distance(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Squared distance of the hidden states of one layer over valid frames, relative to the teacher's energy.

    Args:
        student: (batch, time, dim); so is `teacher`.
        valid: (batch, time) bool, False for padding.
    """
    mask = valid.unsqueeze(-1)
    return ((student - teacher).square() * mask).sum() / (teacher.square() * mask).sum()


def l1_cosine_distance(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute difference plus one minus the cosine, over valid frames (DPHuBERT, Peng et al. 2023).

    DPHuBERT leaves out the constant one, with which the distance of equal states is zero.

    Args:
        student: (batch, time, dim); so is `teacher`.
        valid: (batch, time) bool, False for padding.
    """
    apart = (student - teacher).abs().mean(-1) + 1 - functional.cosine_similarity(student, teacher, dim=-1)
    return (apart * valid).sum() / valid.sum()


DISTANCES = {"squared": squared_distance, "l1-cosine": l1_cosine_distance}


def layer_loss(
    student: tuple[Tensor, ...],
    teacher: tuple[Tensor, ...],
    valid: Tensor,
    *,
    distance: str = "squared",
    every: int = 1,
) -> Tensor:
    """Distance of hidden states, mean over layers.

    Args:
        student: (batch, time, dim) of every layer; so is `teacher`, with as many layers.
        valid: (batch, time) bool, False for padding.
        distance: a name of DISTANCES.
        every: compare every n-th hidden state, from the first on.
    """
    pairs = list(zip(student, teacher, strict=True))[::every]
    return torch.stack([DISTANCES[distance](mine.float(), theirs.float(), valid) for mine, theirs in pairs]).mean()


class Distiller:
    """Runs the frozen teacher on a batch and computes the distillation losses of a student.

    Args:
        teacher: the dense model; put into eval mode and frozen.
        options: weights of the losses.
    """

    def __init__(self, teacher: PreTrainedModel, options: DistillationConfig):
        self.teacher = teacher.eval().requires_grad_(False)
        self.options = options
        self.head = head_of(teacher)
        self.layer_weight: float = self.head.layer_weight if options.layer_weight is None else options.layer_weight

    def __call__(self, student: Any, inputs: Mapping[str, Tensor], valid: Tensor) -> dict[str, Tensor]:
        """Weighted losses, `posterior` and `layer`, of the output of a student for `inputs`.

        Args:
            student: output of its `Head.forward`, with hidden states.
            valid: (batch, time) bool, positions of its outputs that count: frames, or tokens of a text.
        """
        with torch.no_grad(), without_regularisation(self.teacher):
            teacher = self.head.forward(self.teacher, inputs, hidden_states=self.layer_weight > 0)
        terms = {}
        if self.options.posterior_weight > 0:
            losses = [posterior_loss(*each) for each in self.head.posteriors(student, teacher, valid)]
            terms["posterior"] = self.options.posterior_weight * torch.stack(losses).sum()
        if self.layer_weight > 0:
            frames = self.head.output_lengths(self.teacher, inputs)
            stacks_of = partial(self.head.hidden_states, valid=valid, lengths=frames)
            stacks = zip(stacks_of(student), stacks_of(teacher), strict=True)
            loss = partial(layer_loss, distance=self.options.layer_distance, every=self.options.match_every)
            distances = [loss(mine, theirs, positions) for (mine, positions), (theirs, _) in stacks]
            terms["layer"] = self.layer_weight * torch.stack(distances).mean()
        return terms


class Objective:
    """The training loss of a student: its task loss where there are labels, and the distillation losses.

    Args:
        distiller: None trains on the task loss alone.
    """

    def __init__(self, student: PreTrainedModel, distiller: Distiller | None):
        self.student = student
        self.distiller = distiller

    def __call__(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms of the loss on a batch and their sum, `loss`."""
        layers = self.distiller is not None and self.distiller.layer_weight > 0
        head = head_of(self.student)
        output = head.forward(self.student, batch.inputs, batch.labels, hidden_states=layers)
        weight = 1.0 if self.distiller is None else self.distiller.options.task_weight
        terms = {"task": weight * output.loss} if batch.labels is not None and weight > 0 else {}
        if self.distiller is not None:
            terms |= self.distiller(
                output, batch.inputs, valid_frames(self.student, batch.inputs, head.outputs(output))
            )
        return {
            "loss": torch.stack(list(terms.values())).sum(),
            **{name: t.detach() for name, t in terms.items()},
        }
