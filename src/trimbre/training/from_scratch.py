"""Training a CTC recogniser, from scratch by a config or further from a checkpoint."""

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
from trimbre.data.cuts import transcript_of
from trimbre.data.language import Languages
from trimbre.data.text import normalise
from trimbre.data.unreadable import UnreadableClips
from trimbre.errors import OptionError, UserError, reason
from trimbre.evaluation.score import validation_wer
from trimbre.models.loading import Recogniser
from trimbre.training.loop import FitResult, cosine, fit
from trimbre.training.tokenizer import train_tokenizer

FROM_SCRATCH = ("parakeet_ctc",)
"""Model types that can be trained from scratch."""


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
    """Train a recogniser on `cuts`, in place, and validate it on `dev`.

    Args:
        tolerance: counts audio that cannot be read.
        run: folder for the states to resume from.

    Returns:
        The moving average of its weights, as a model in eval mode, and what training took.
    """
    network, processor = start
    languages = Languages.of(options.batches.language, start)
    network.to(accelerator.device).train()
    average = Average(network, options.average)
    optimizer = torch.optim.AdamW(_parameter_groups(network), lr=options.rate, betas=(0.9, 0.98), fused=True)

    def validate(step: int) -> Mapping[str, float]:
        found = validation_wer(
            average.model,
            processor,
            dev,
            normalize=options.batches.normalize,
            languages=languages,
            bfloat16=accelerator.mixed_precision == "bf16",
        )
        return {"wer": found}

    def objective(batch: Batch, step: int) -> Mapping[str, Tensor]:
        return {"loss": network(**batch.inputs, labels=batch.labels).loss}

    result = fit(
        stage="train",
        steps=min(options.steps, options.stop_at or options.steps),
        batches=_short_first(cuts, processor, options, accelerator, tolerance, languages),
        accumulate=options.batches.accumulate,
        objective=objective,
        optimizers=[optimizer],
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


def build(path: str | Path, cuts: CutSet, options: TrainConfig) -> Recogniser:
    """A randomly initialised model by a config file, with a tokenizer trained on the transcripts of `cuts`.

    Raises:
        UserError: the file is missing, is not JSON or is not a config of a ParakeetForCTC.
    """
    try:
        fields = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the model config {path}: {reason(error)}") from error
    family = fields.pop("model_type", None) if isinstance(fields, dict) else None
    if family not in FROM_SCRATCH:
        raise UserError(f'{path} needs a "model_type" that can be trained from scratch: {", ".join(FROM_SCRATCH)}')
    stated = fields.pop("vocab_size", 256)
    if not isinstance(stated, int) or stated < 2:
        raise UserError(f"{path} has a vocab_size of {stated!r}: give the number of subwords, 2 or more")
    languages = Languages.of(options.batches.language)
    tokenizer = _tokenizer(cuts, options, options.vocab_size or stated, languages)
    torch.manual_seed(options.seed)
    try:
        config = ParakeetCTCConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **fields)
        mels = fields["encoder_config"].get("num_mel_bins", 80)
        processor = ParakeetProcessor(ParakeetFeatureExtractor(feature_size=mels), tokenizer, decoder_type="ctc")
        model = ParakeetForCTC(config)
    except Exception as error:  # transformers checks some fields, and fails on the others in as many ways as there are
        raise UserError(
            f"{path} is not a config of a ParakeetForCTC with an encoder_config: {reason(error)[:300]}"
        ) from error
    initialise(model)
    return Recogniser(model, processor)


def replace_vocabulary(start: Recogniser, cuts: CutSet, options: TrainConfig) -> Recogniser:
    """The same encoder with a new head for `options.vocab_size` subwords, trained on the transcripts of `cuts`.

    CTC training of letters aligns within minutes, of whole words hardly ever. An encoder that was trained on letters
    goes on to words at once, and words are not misspelled. Of the head, only the blank is kept.

    Raises:
        OptionError: the model is not a ParakeetForCTC.
    """
    model, processor = start
    old = getattr(model, "ctc_head", None)
    if not isinstance(old, nn.Conv1d):
        advice = "the model is not a ParakeetForCTC, whose head can be replaced: leave it out"
        raise OptionError("vocab_size", options.vocab_size, advice, owner="TrainConfig")
    languages = Languages.of(options.batches.language, start)
    tokenizer = _tokenizer(cuts, options, options.vocab_size or len(processor.tokenizer), languages)
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


def _tokenizer(cuts: CutSet, options: TrainConfig, size: int, languages: Languages) -> ParakeetTokenizer:
    how = options.batches.normalize
    texts = (normalise(transcript_of(cut) or "", how, language=languages.written(cut)) for cut in cuts)
    return train_tokenizer(texts, vocab_size=size)


def initialise(model: nn.Module) -> None:
    """Initialise as PyTorch does: transformers' initialisation (std 0.02) stalls CTC at small widths."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            module.reset_parameters()


class Average:
    """Moving average of a model's weights and statistics, kept as a model of its own.

    Args:
        decay: of the average per step.
    """

    def __init__(self, model: PreTrainedModel, decay: float):
        self.source = model
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def __call__(self, step: int) -> Mapping[str, float]:
        """Move the average toward the model, faster in the first steps."""
        decay = min(self.decay, step / (step + 10))
        mine, theirs = self.model.state_dict(), self.source.state_dict()
        floating = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in floating], [theirs[name] for name in floating], 1 - decay)
        return {}


def best_of(result: FitResult) -> Mapping[str, float] | None:
    """The point of the validation curve with the lowest WER."""
    return min(result.curve, key=lambda point: point["wer"]) if result.curve else None


def _short_first(
    cuts: CutSet,
    processor: Any,
    options: TrainConfig,
    accelerator: Accelerator,
    tolerance: UnreadableClips | None,
    languages: Languages,
) -> Callable[[int], Iterator[Batch]]:
    def batches(start: int) -> Iterator[Batch]:
        given = {
            "processor": processor,
            "options": options.batches,
            "seed": options.seed,
            "rank": accelerator.process_index,
            "world": accelerator.num_processes,
            "tolerance": tolerance,
            "languages": languages,
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


def _parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups with weight decay for matrices alone."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": matrices, "weight_decay": 1e-2}, {"params": vectors, "weight_decay": 0.0}]
