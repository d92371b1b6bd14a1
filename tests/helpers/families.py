"""Tiny random models of every family, what to feed them, and plans to cut them by."""

import copy
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoModelForCTC,
    AutoModelForRNNT,
    AutoModelForSpeechSeq2Seq,
    AutoModelForTDT,
    GenerationConfig,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    ParakeetCTCConfig,
    ParakeetEncoderConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetForRNNT,
    ParakeetForTDT,
    ParakeetProcessor,
    ParakeetRNNTConfig,
    ParakeetTDTConfig,
    ParakeetTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForCTC,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from trimbre.models.anatomy import Anatomy
from trimbre.models.inputs import features_of
from trimbre.plan import Plan


@dataclass(frozen=True)
class Family:
    """How to make a tiny model of one family, with parts that a random draw would leave at zero or one shaken."""

    build: Callable[[], PreTrainedModel]
    processor: Callable[[], ProcessorMixin]
    auto: Any = AutoModelForCTC
    """transformers' way in."""
    pipeline: Mapping[str, Any] | None = field(default_factory=dict)
    """What `pipeline()` takes to decode greedily; a Whisper it would give five beams. None where it gives no prompt."""


def _parakeet_encoder() -> dict[str, Any]:
    return ParakeetEncoderConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        subsampling_conv_channels=8,
        num_mel_bins=80,
        layerdrop=0.0,
    ).to_dict()


def _tiny_parakeet() -> PreTrainedModel:
    return ParakeetForCTC(ParakeetCTCConfig(vocab_size=30, pad_token_id=29, encoder_config=_parakeet_encoder()))


def _tiny_transducer(made: Any, config: Any, **fields: Any) -> PreTrainedModel:
    sizes = {"vocab_size": 31, "decoder_hidden_size": 16, "num_decoder_layers": 2, "pad_token_id": 29}
    model = made(config(**sizes, blank_token_id=30, encoder_config=_parakeet_encoder(), **fields))
    durations = [31 + place for place in range(len(fields.get("durations", ())))]  # which are no tokens
    model.generation_config = GenerationConfig(
        decoder_start_token_id=30, pad_token_id=29, **({"suppress_tokens": durations} if durations else {})
    )
    return model


@cache
def tiny_parakeet_processor(decoder: str = "ctc") -> ProcessorMixin:
    letters = {letter: index for index, letter in enumerate("▁abcdefghijklmnopqrstuvwxyz'")}
    tokenizer = Tokenizer(WordLevel(letters | {"<unk>": 28, "<pad>": 29}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.decoder = decoders.Metaspace()
    wrapped = ParakeetTokenizer(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    if decoder != "ctc":
        wrapped.add_special_tokens({"additional_special_tokens": ["<blank>"]})
    return ParakeetProcessor(ParakeetFeatureExtractor(), wrapped, decoder_type=decoder)


RAW_AUDIO: dict[str, Any] = {
    "vocab_size": 30,
    "pad_token_id": 29,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (10, 8, 4),
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_length": 2,
    "layerdrop": 0.0,
}
"""Sizes of a tiny model on raw audio, as all configs of wav2vec 2.0's kin name them."""


def _tiny_conformer(positions: str) -> PreTrainedModel:
    return Wav2Vec2ConformerForCTC(Wav2Vec2ConformerConfig(**RAW_AUDIO, position_embeddings_type=positions))


FRONT = {"feat_extract_norm": "group", "conv_dim": (8, 12, 8), "conv_kernel": (10, 9, 4), "conv_bias": False}
"""A front end whose channels can be cut, as wav2vec2-base has it; its windows overlap in part."""


def tiny_kin(name: str, **sizes: Any) -> PreTrainedModel:
    """A tiny random model of wav2vec 2.0's kin, such as `Hubert`; `sizes` in place of those of `RAW_AUDIO`."""
    config = getattr(transformers, f"{name}Config")(**(RAW_AUDIO | sizes))
    model: PreTrainedModel = getattr(transformers, f"{name}ForCTC")(config)
    return model


@cache
def _tiny_wav2vec2_processor(*, masked: bool = True) -> ProcessorMixin:
    letters = {letter: index for index, letter in enumerate("|abcdefghijklmnopqrstuvwxyz'")}
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.json"
        vocabulary.write_text(json.dumps(letters | {"<unk>": 28, "<pad>": 29}))
        tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary), bos_token=None, eos_token=None)
    return Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=masked), tokenizer)


WHISPER_SPECIAL = (
    "<|endoftext|> <|startoftranscript|> <|en|> <|de|> <|translate|> <|transcribe|> <|startoflm|> <|startofprev|> "
    "<|nospeech|> <|notimestamps|>"
).split()
END = 256  # of bytes, one token each; the special ones follow


def _tiny_whisper(multilingual: bool) -> PreTrainedModel:
    heads = (4, 2) if multilingual else (4, 4)
    config = WhisperConfig(
        vocab_size=END + 10 + 101,
        d_model=32,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=heads[0],
        decoder_attention_heads=heads[1],
        encoder_ffn_dim=48,
        decoder_ffn_dim=40,
        max_source_positions=100,  # a window of 2 s
        max_target_positions=40,
        dropout=0.1,
        pad_token_id=END,
        bos_token_id=END + 1,
        eos_token_id=END,
        decoder_start_token_id=END + 1,
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=END + 1,
        eos_token_id=END,
        pad_token_id=END,
        decoder_start_token_id=END + 1,
        no_timestamps_token_id=END + 9,
        prev_sot_token_id=END + 7,
        max_length=40,
        suppress_tokens=[*range(94, END), *range(END + 1, config.vocab_size)],  # what it writes is ASCII
        is_multilingual=multilingual,
        return_timestamps=False,
        alignment_heads=[[0, 1], [1, 0], [2, 0], [2, 1]],
        **({"lang_to_id": {"<|en|>": END + 2, "<|de|>": END + 3}} if multilingual else {}),
        **({"forced_decoder_ids": [[1, None], [2, END + 5]]} if multilingual else {}),  # as OpenAI's
        **({"task_to_id": {"transcribe": END + 5, "translate": END + 4}} if multilingual else {}),
    )
    return model


@cache
def _tiny_whisper_processor() -> ProcessorMixin:
    alphabet = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    end = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), WHISPER_SPECIAL[0])
    tokenizer = WhisperTokenizer(vocab=alphabet, merges=[], extra_special_tokens=WHISPER_SPECIAL[1:], **end)
    tokenizer.add_tokens([f"<|{hundredths / 100:.2f}|>" for hundredths in range(0, 201, 2)])
    assert tokenizer.convert_tokens_to_ids(WHISPER_SPECIAL) == list(range(END, END + 10))
    return WhisperProcessor(WhisperFeatureExtractor(chunk_length=2), tokenizer)


def _tiny_moonshine() -> PreTrainedModel:
    config = MoonshineConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=40,
        encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=2,
        encoder_num_attention_heads=4,
        decoder_num_attention_heads=4,
        max_position_embeddings=40,
        pad_token_id=2,
        attention_dropout=0.1,
        pad_head_dim_to_multiple_of=3,
    )
    return writing(MoonshineForConditionalGeneration(config))


def writing(model: PreTrainedModel, **settings: Any) -> PreTrainedModel:
    """Let a random decoder write letters, and not one for ever: with tied embeddings it repeats what it reads."""
    for name, value in ({"max_length": 16, "suppress_tokens": [0, 1], "no_repeat_ngram_size": 2} | settings).items():
        setattr(model.generation_config, name, value)
    model.generation_config._from_model_config = False  # else transformers drops what it does not know on loading
    return model


@cache
def _tiny_moonshine_processor() -> ProcessorMixin:
    return Wav2Vec2Processor(
        Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True), letters_tokenizer()
    )


@cache
def letters_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """One token for each of 28 letters, after `<unk> <s> </s>` and those that are given."""
    names = ("<unk>", "<s>", "</s>", *special)
    letters = {token: number for number, token in enumerate((*names, *"▁abcdefghijklmnopqrstuvwxyz'"))}
    tokenizer = Tokenizer(WordLevel(letters, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.decoder = decoders.Metaspace()
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=list(special), **named)


ONE_BEAM = {"num_beams": 1, "max_new_tokens": None}

FAMILIES = {
    "parakeet": Family(_tiny_parakeet, tiny_parakeet_processor),
    "transducer, TDT": Family(
        partial(_tiny_transducer, ParakeetForTDT, ParakeetTDTConfig, durations=[0, 1, 2, 3, 4]),
        partial(tiny_parakeet_processor, "tdt"),
        AutoModelForTDT,
    ),
    "wav2vec2-conformer, relative": Family(partial(_tiny_conformer, "relative"), _tiny_wav2vec2_processor),
    "wav2vec2-conformer, rotary": Family(partial(_tiny_conformer, "rotary"), _tiny_wav2vec2_processor),
    "wav2vec2": Family(partial(tiny_kin, "Wav2Vec2", **FRONT), partial(_tiny_wav2vec2_processor, masked=False)),
    "whisper, English": Family(
        partial(_tiny_whisper, False),
        _tiny_whisper_processor,
        AutoModelForSpeechSeq2Seq,
        {"generate_kwargs": ONE_BEAM},
    ),
    "whisper, multilingual": Family(
        partial(_tiny_whisper, True),
        _tiny_whisper_processor,
        AutoModelForSpeechSeq2Seq,
        {"generate_kwargs": ONE_BEAM | {"task": "transcribe"}},
    ),
    "moonshine": Family(
        _tiny_moonshine, _tiny_moonshine_processor, AutoModelForSpeechSeq2Seq, {"generate_kwargs": ONE_BEAM}
    ),
}

RNNT = Family(
    partial(_tiny_transducer, ParakeetForRNNT, ParakeetRNNTConfig),
    partial(tiny_parakeet_processor, "rnnt"),
    AutoModelForRNNT,
)
"""Apart from the others: but for its loss and its frames it is the code of TDT."""


def shaken(model: PreTrainedModel) -> PreTrainedModel:
    """Move every parameter and norm statistic off the values at which mistakes cancel."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator))
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return model.eval()


def talkative(model: PreTrainedModel, processor: ProcessorMixin) -> None:
    """Take the average frame out of the bias of a CTC or joint head: else a random model says one label for ever.

    A transducer's blank is made as likely as all labels together, so that it goes on.
    """
    joint = getattr(getattr(model, "joint", None), "head", None)
    head = getattr(model, "ctc_head", None) or getattr(model, "lm_head", None) or joint
    if head is None:
        return
    noise = torch.randn(32_000, generator=torch.Generator().manual_seed(3)).numpy()
    inputs = features_of([noise], processor)
    if joint is not None:
        inputs["decoder_input_ids"] = torch.arange(0, model.config.vocab_size, 2).unsqueeze(0)
    with torch.no_grad():
        if joint is not None:
            model.decoder.decoder_projector.weight *= 10
            model.encoder_projector.weight *= 10
        logits = model(**inputs).logits.flatten(0, -2)
        head.bias -= logits.mean(0)
        if joint is not None:
            head.bias[model.config.blank_token_id] += 1.2 * float(logits.std(0).mean())


def last_states(output: Any) -> Tensor:
    """(batch, time, dim) what the last layer of a model, or of its decoder, puts out."""
    return (output.get("decoder_hidden_states") or output.hidden_states)[-1]


def random_plan(anatomy: Anatomy, seed: int, *, skip: float = 0.2) -> Plan:
    """Random widths from the least to all in every module, some of them skipped."""
    draw = random.Random(seed)
    kept = {g.path: sorted(draw.sample(range(g.size), draw.randint(g.least, g.size))) for g in anatomy.groups}
    gone = [group for group in anatomy.groups if draw.random() < skip]
    return Plan(anatomy.sizes, kept, frozenset(group.path for group in gone if group.skippable))


def edge_plans(anatomy: Anatomy) -> dict[str, Plan]:
    """The plans at which slicing code breaks; what has to stay of a group stays."""
    everything = Plan.everything(anatomy.sizes)
    least = {group.path: tuple(range(group.least)) for group in anatomy.groups}
    skippable = [group.path for group in anatomy.groups if group.skippable]
    plans = {"everything": everything, "no units": Plan(anatomy.sizes, least)}
    plans["no modules"] = Plan(anatomy.sizes, least, frozenset(skippable))
    for name in anatomy.kinds:
        paths = [group.path for group in anatomy.groups if group.kind.name == name]
        few = {path: least[path] for path in paths}
        plans[f"no {name} units"] = Plan(anatomy.sizes, dict(everything.kept) | few)
        plans[f"no {name} modules"] = Plan(anatomy.sizes, everything.kept, frozenset(paths) & {*skippable})
        second = {path: (min(1, anatomy.sizes[path] - 1),) for path in paths}
        plans[f"one {name} unit"] = Plan(anatomy.sizes, dict(everything.kept) | second)
    return plans


def torch_is_right() -> bool:
    """Whether a grouped convolution of few channels in bfloat16, as in a tiny Wav2Vec2, is what it is in float32.

    With torch 2.13 on a processor with AMX it is noise, and in float16 it doesn't return; of full width it is right.
    """
    clip, weight = torch.randn(1, 32, 75), torch.randn(32, 8, 16)
    whole = functional.conv1d(clip, weight, padding=8, groups=4)
    half = functional.conv1d(clip.bfloat16(), weight.bfloat16(), padding=8, groups=4).float()
    return bool((half - whole).norm() < 0.1 * whole.norm())


def twin(model, group) -> None:
    """Make the second unit of a module do what the first does, but for the weights that read it."""
    module = model.get_submodule(group.home)
    with torch.no_grad():
        for tensor, axis, rows, repeats in group.kind.slices:
            if tensor.startswith(f"{group.kind.consumer}."):
                continue
            owner, _, name = tensor.rpartition(".")
            value = getattr(module.get_submodule(owner), name)
            if value is None:  # as `narrow` passes over it
                continue
            for run in range(repeats):
                first = run * group.size * rows
                value.narrow(axis, first + rows, rows).copy_(value.narrow(axis, first, rows))


def at_8_khz(family: Family) -> ProcessorMixin:
    """The processor of a model for telephone audio."""
    processor = copy.copy(family.processor())
    own = processor.feature_extractor
    made = {
        ParakeetFeatureExtractor: lambda: ParakeetFeatureExtractor(sampling_rate=8000),
        Wav2Vec2FeatureExtractor: lambda: Wav2Vec2FeatureExtractor(
            sampling_rate=8000, return_attention_mask=own.return_attention_mask
        ),
        WhisperFeatureExtractor: lambda: WhisperFeatureExtractor(sampling_rate=8000, chunk_length=2, hop_length=80),
    }
    processor.feature_extractor = made[type(own)]()
    return processor
