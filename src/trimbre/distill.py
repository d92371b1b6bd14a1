"""Learning from the unpruned model: its posteriors and the hidden states of its layers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from trimbre.data.batches import Batch
from trimbre.decoding import output_lengths
from trimbre.options import DistillOptions


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
    """Squared distance of one layer's hidden states over valid frames, relative to the teacher's energy.

    Args:
        student: (batch, time, dim); so is `teacher`.
        valid: (batch, time) bool, False for padding.
    """
    mask = valid.unsqueeze(-1)
    return ((student - teacher).square() * mask).sum() / (teacher.square() * mask).sum()


def l1_cosine_distance(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute difference plus one less the cosine, over valid frames (DPHuBERT, Peng et al. 2023).

    DPHuBERT leaves the one out, which makes it zero for a student that is its teacher.
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
        every: compare the first and every so many-th after it.
    """
    pairs = list(zip(student, teacher, strict=True))[::every]
    return torch.stack([DISTANCES[distance](mine.float(), theirs.float(), valid) for mine, theirs in pairs]).mean()


def layer_weight_for(model: PreTrainedModel) -> float:
    """The weight of hidden states that suits a model.

    A short recovery of a CTC model goes furthest by them: they say what every layer should do at every frame, where its
    posteriors are the same blank nearly everywhere. A decoder's text says as much, and more weight gained nothing.
    """
    return 1.0 if model.config.is_encoder_decoder else 100.0


class Distiller:
    """Runs the frozen teacher on a batch and measures how far the student is from it."""

    def __init__(self, teacher: PreTrainedModel, options: DistillOptions):
        self.teacher = teacher.eval().requires_grad_(False)
        self.options = options
        self.layer_weight: float = layer_weight_for(teacher) if options.layer_weight is None else options.layer_weight

    def __call__(self, student: Any, inputs: Mapping[str, Tensor], valid: Tensor) -> dict[str, Tensor]:
        """Weighted terms for a student's output (with logits and hidden states) on the same `inputs`.

        Args:
            valid: (batch, time) bool, the positions of the logits that count: frames, or tokens of a text.
        """
        with torch.no_grad(), undisturbed(self.teacher):
            teacher = self.teacher(**inputs, output_hidden_states=self.layer_weight > 0)
        terms = {}
        if self.options.posterior_weight > 0:
            terms["posterior"] = self.options.posterior_weight * posterior_loss(student.logits, teacher.logits, valid)
        if self.layer_weight > 0:
            stacks = zip(_stacks(student, valid), _stacks(teacher, valid), strict=True)
            loss = partial(layer_loss, distance=self.options.layer_distance, every=self.options.match_every)
            distances = [loss(mine, theirs, positions) for (mine, positions), (theirs, _) in stacks]
            terms["layer"] = self.layer_weight * torch.stack(distances).mean()
        return terms


def _stacks(output: Any, valid: Tensor) -> list[tuple[tuple[Tensor, ...], Tensor]]:
    """Hidden states of every layer with the positions that count: of an encoder and, where there is one, a decoder."""
    heard = output.get("encoder_hidden_states")
    if heard is None:
        return [(output.hidden_states, valid)]
    # It hears windows: the silence that fills one up is as much to be heard as all else.
    everything = torch.ones(heard[0].shape[:2], dtype=torch.bool, device=valid.device)
    return [(heard, everything), (output.decoder_hidden_states, valid)]


class Objective:
    """What a student is trained on: its own task where there are transcripts, and its teacher."""

    def __init__(self, student: PreTrainedModel, distiller: Distiller | None):
        self.student = student
        self.distiller = distiller

    def __call__(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms of the loss on a batch and their sum, `loss`."""
        layers = self.distiller is not None and self.distiller.layer_weight > 0
        output = self.student(**batch.inputs, labels=batch.labels, output_hidden_states=layers)
        weight = 1.0 if self.distiller is None else self.distiller.options.task_weight
        terms = {"task": weight * output.loss} if batch.labels is not None and weight > 0 else {}
        if self.distiller is not None:
            terms |= self.distiller(output, batch.inputs, valid_frames(self.student, batch.inputs, output.logits))
        return {
            "loss": torch.stack(list(terms.values())).sum(),
            **{name: t.detach() for name, t in terms.items()},
        }


DISTURBANCES = {
    "layerdrop": 0.0,
    "apply_spec_augment": False,
    "use_cache": False,
    "ctc_zero_infinity": True,
    "ctc_loss_reduction": "mean",
}
"""Settings by which some families disturb a model in train mode, with the value that keeps them from it.

A decoder would also keep keys and values for tokens to come, which don't come in training; a single transcript with
more to write than its audio has frames would make the loss infinite; and a task's loss that adds up over texts and
tokens would drown what the teacher says.
"""


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Keep every layer, every input and every unit in train mode: all are compared one by one with the teacher's.

    Parakeet drops a tenth of its layers by default, Wav2Vec2-Conformer also masks its input by itself, and both have
    dropout, noise that the teacher doesn't have and that a short recovery has no time to average out.
    """
    settings = []
    for holder in _holders(model):
        names = DISTURBANCES | dict.fromkeys((n for n in vars(holder) if n.endswith("dropout")), 0.0)
        names |= {"p": 0.0} if isinstance(holder, nn.Dropout) else {}
        for name, calm in names.items():
            if isinstance(value := getattr(holder, name, None), bool | float | str) and value != calm:
                settings.append((holder, name, value))
                setattr(holder, name, calm)
    try:
        yield
    finally:
        for holder, name, value in settings:
            setattr(holder, name, value)


def _holders(model: nn.Module) -> list[Any]:
    """Modules, and the configs that they read."""
    configs = {id(config): config for config in (getattr(m, "config", None) for m in model.modules())}
    return [*model.modules(), *(c for c in configs.values() if isinstance(c, PreTrainedConfig))]


def valid_frames(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], output: Tensor, *, written: bool | None = None
) -> Tensor:
    """(batch, time) bool: which positions of an `output` (batch, time, ...) stand for audio or text, not for padding.

    Args:
        written: the positions are tokens of a text, and not frames of audio; None: what the model's logits are of.
    """
    if model.config.is_encoder_decoder if written is None else written:
        mask = inputs.get("decoder_attention_mask")
        lengths = None if mask is None else mask.sum(-1)
    else:
        lengths = output_lengths(model, inputs)
    frames = torch.arange(output.shape[1], device=output.device)
    if lengths is None:
        return torch.ones(output.shape[:2], dtype=torch.bool, device=output.device)
    return frames < lengths.to(output.device).unsqueeze(1)
