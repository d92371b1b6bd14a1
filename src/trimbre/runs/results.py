"""What pruning and training runs return: the model, what is known of it, and how to write it to a directory."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from trimbre.errors import OptionError
from trimbre.evaluation.compare_runs import Run
from trimbre.files import refuse_existing
from trimbre.models.checkpoint import save
from trimbre.plan import Plan
from trimbre.report.markdown.model_card import model_card, training_card


@dataclass(frozen=True, eq=False)
class PruneResult:
    """A pruned model and how it came to be."""

    model: PreTrainedModel
    """The smaller model, in eval mode."""
    processor: ProcessorMixin
    """The processor of the model that was pruned, with the tokens that stay."""
    plan: Plan
    """What was kept; of the dense model, where the one that was pruned came from a pruned checkpoint."""
    report: Mapping[str, Any]
    """What was removed, what it cost in errors and what each stage took, as plain data; `prune.json` of a checkpoint.
    Its `missed` is None where the target was met, else a sentence."""
    control: PreTrainedModel | None = None
    """The dense model fine-tuned for as many steps, where `PruneConfig.control` asked for it."""

    def save(self, out: str | Path) -> Path:
        """Write model, processor, plan, report and model card to a new directory, whole or not at all.

        Raises:
            UserError: `out` exists.
        """
        return save(
            self.model,
            self.processor,
            _new(out),
            plan=self.plan,
            card=model_card(self.report),
            extra={"prune.json": json.dumps(self.report, indent=2) + "\n"},
        )


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained model and how it came to be."""

    model: PreTrainedModel
    """The moving average of the trained weights, in eval mode."""
    processor: ProcessorMixin
    """Its processor, with the vocabulary that it was trained with."""
    report: Mapping[str, Any]
    """Steps, audio seen, the curve on dev and its best point, as plain data; `train.json` of a checkpoint."""

    def save(self, out: str | Path, *, half: bool = False) -> Path:
        """Write model, processor, report and a short model card to a new directory, whole or not at all.

        Args:
            half: store the weights as float16; they load as float32.

        Raises:
            UserError: `out` exists.
        """
        report = {"train.json": json.dumps(self.report, indent=2) + "\n"}
        card = training_card(self.report)
        return save(self.model, self.processor, _new(out), half=half, card=card, extra=report)


def run_of(name: str | None, run: str | Path | PruneResult) -> Run:
    """A run to compare, by its report, from its directory or in memory."""
    if isinstance(run, PruneResult):
        return Run.of(run.report, place=name or f"the result from {run.report['model']}", name=name)
    return Run.read(str(run) if name is None else f"{name}={run}")


def _new(out: Any) -> Path:
    """The path of a directory that does not exist yet."""
    if not isinstance(out, str | Path):
        raise OptionError("out", type(out).__name__, "give the path of a directory to write")
    refuse_existing(Path(out))
    return Path(out)
