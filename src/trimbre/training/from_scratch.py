"""Training a recogniser: from nothing, by a config, or on from a checkpoint."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from lhotse import CutSet
from torch import Tensor, nn
from transformers import (
    ParakeetCTCConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetProcessor,
    ParakeetTokenizer,
    PreTrainedModel,
)

from trimbre.config import TrainConfig
from trimbre.data.batches import Batch, training_batches
from trimbre.data.check import UnreadableClips
from trimbre.data.cuts import transcript_of
from trimbre.data.text import normalise
from trimbre.errors import UserError
from trimbre.evaluation.evaluate import validation_wer
from trimbre.models.loading import Recogniser
from trimbre.training.loop import FitResult, cosine, fit
from trimbre.training.tokenizer import train_tokenizer


def train_model(
    start: Recogniser,
    *,
    cuts: CutSet,
    dev: CutSet,
    options: TrainConfig,
    accelerator: Accelerator,
    tolerance: UnreadableClips | None = None,
    run: Path | None = None,
) -> tuple[PreTrainedModel, FitResult]:
    """Train a recogniser on `cuts`, judged on `dev`; return the running average of its weights.

    Args:
        tolerance: takes note of audio that cannot be read.
        run: folder for the state to resume from.
    """
    network, processor = start
    network.to(accelerator.device).train()
    average = Average(network, options.average)
    weights = torch.optim.AdamW(_decayed(network), lr=options.rate, betas=(0.9, 0.98), fused=True)

    def validate(step: int) -> Mapping[str, float]:
        bfloat16 = accelerator.mixed_precision == "bf16"
        normalize = options.batches.normalize
        return {"wer": validation_wer(average.model, processor, dev, normalize=normalize, bfloat16=bfloat16)}

    def objective(batch: Batch, step: int) -> Mapping[str, Tensor]:
        return {"loss": network(**batch.inputs, labels=batch.labels).loss}

    result = fit(
        stage="train",
        steps=min(options.steps, options.stop_at or options.steps),
        batches=_short_first(cuts, processor, options, accelerator, tolerance),
        accumulate=options.batches.accumulate,
        objective=objective,
        optimizers=[weights],
        modules={"model": network, "average": average.model},
        accelerator=accelerator,
        seed=options.seed,
        schedule=cosine(options.steps, options.warmup),
        on_step=average,
        validate=validate,
        validate_every=options.validate_every,
        state_dir=run,
        save_every=options.save_every,
    )
    return average.model.eval(), result


def build(path: Path, cuts: CutSet, options: TrainConfig) -> Recogniser:
    """A random model by a config file, with a vocabulary learned from the transcripts of `cuts`.

    Raises:
        UserError: the file is missing, is not JSON or does not describe a ParakeetForCTC.
    """
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the model config {path}: {error}") from error
    if not isinstance(fields, dict) or fields.pop("model_type", None) != "parakeet_ctc":
        raise UserError(f'{path} has no "model_type": "parakeet_ctc", the family that can be trained from nothing')
    stated = fields.pop("vocab_size", 256)
    if not isinstance(stated, int) or stated < 2:
        raise UserError(f"{path} asks for a vocab_size of {stated!r}: give the number of subwords, 2 or more")
    tokenizer = _tokenizer(cuts, options, options.vocab_size or stated)
    torch.manual_seed(options.seed)
    try:
        config = ParakeetCTCConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **fields)
        model = ParakeetForCTC(config)
        mels = fields["encoder_config"].get("num_mel_bins", 80)
        processor = ParakeetProcessor(ParakeetFeatureExtractor(feature_size=mels), tokenizer, decoder_type="ctc")
    except Exception as error:  # transformers checks some fields, and fails on the others in as many ways as there are
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} is no config of a ParakeetForCTC with an encoder_config: {reason}") from error
    initialise(model)
    return Recogniser(model, processor)


def replace_vocabulary(start: Recogniser, cuts: CutSet, options: TrainConfig) -> Recogniser:
    """The same encoder with a vocabulary of `options.vocab_size` subwords learned from the transcripts of `cuts`.

    CTC learns to align letters within minutes and whole words hardly ever, but an encoder that hears letters learns
    words at once, and words don't get misspelled. The new head knows the blank alone.

    Raises:
        UserError: the model has no CTC head of its own.
    """
    model, processor = start
    old = getattr(model, "ctc_head", None)
    if not isinstance(old, nn.Conv1d):
        raise UserError("--vocab-size: the model is no ParakeetForCTC, whose head can be replaced")
    tokenizer = _tokenizer(cuts, options, options.vocab_size or len(processor.tokenizer))
    torch.manual_seed(options.seed)
    head = type(old)(old.in_channels, len(tokenizer), kernel_size=1)
    assert head.bias is not None
    assert old.bias is not None
    with torch.no_grad():
        head.weight[tokenizer.pad_token_id] = old.weight[model.config.pad_token_id]
        head.bias[tokenizer.pad_token_id] = old.bias[model.config.pad_token_id]
    model.ctc_head = head
    model.config.vocab_size, model.config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    if model.generation_config is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    return Recogniser(model, ParakeetProcessor(processor.feature_extractor, tokenizer, decoder_type="ctc"))


def _tokenizer(cuts: CutSet, options: TrainConfig, size: int) -> ParakeetTokenizer:
    texts = (normalise(transcript_of(cut) or "", options.batches.normalize) for cut in cuts)
    return train_tokenizer(texts, vocab_size=size)


def initialise(model: nn.Module) -> None:
    """PyTorch's own initialisation: transformers' (std 0.02) stalls CTC at small widths."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            module.reset_parameters()


class Average:
    """A running average of a model's weights and statistics, a model itself."""

    def __init__(self, model: PreTrainedModel, decay: float):
        self.source = model
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def __call__(self, step: int) -> Mapping[str, float]:
        """Move the average a little toward the model, more in the first steps."""
        decay = min(self.decay, step / (step + 10))
        mine, theirs = self.model.state_dict(), self.source.state_dict()
        floating = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in floating], [theirs[name] for name in floating], 1 - decay)
        return {}


def best_of(result: FitResult) -> Mapping[str, float] | None:
    """The point of the curve with the lowest WER."""
    return min(result.curve, key=lambda point: point["wer"]) if result.curve else None


def _short_first(
    cuts: CutSet, processor: Any, options: TrainConfig, accelerator: Accelerator, tolerance: UnreadableClips | None
) -> Callable[[int], Iterator[Batch]]:
    def batches(start: int) -> Iterator[Batch]:
        given = {
            "processor": processor,
            "options": options.batches,
            "seed": options.seed,
            "rank": accelerator.process_index,
            "world": accelerator.num_processes,
            "tolerance": tolerance,
        }
        first = options.short_steps * options.batches.accumulate
        if start < first:
            short = cuts.filter(partial(_is_short, longest=options.short_seconds))
            stream = training_batches(short, start=start, **given)
            yield from islice(stream, first - start)
            del stream  # and with it its workers
        yield from training_batches(cuts, start=max(0, start - first), **given)

    return batches


def _is_short(cut: Any, *, longest: float) -> bool:
    return cut.duration <= longest


def _decayed(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay for matrices alone."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": matrices, "weight_decay": 1e-2}, {"params": vectors, "weight_decay": 0.0}]
