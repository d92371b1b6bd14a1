"""Tiny random models of families that share their kinds, and mostly their heads, with those of `FAMILIES`."""

from functools import cache
from typing import Any

from transformers import (
    AutoModelForSpeechSeq2Seq,
    CanaryConfig,
    CanaryForConditionalGeneration,
    CanaryProcessor,
    CohereAsrConfig,
    CohereAsrFeatureExtractor,
    CohereAsrForConditionalGeneration,
    CohereAsrProcessor,
    GraniteSpeech5CTCConfig,
    GraniteSpeech5ForCTC,
    LasrCTCConfig,
    LasrFeatureExtractor,
    LasrForCTC,
    LasrProcessor,
    MoonshineStreamingConfig,
    MoonshineStreamingForConditionalGeneration,
    MoonshineStreamingProcessor,
    ParakeetFeatureExtractor,
    ParakeetProcessor,
    PreTrainedModel,
    ProcessorMixin,
    Wav2Vec2FeatureExtractor,
)

from helpers.families import ONE_BEAM, Family, letters_tokenizer, tiny_parakeet_processor, writing

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
PROMPT = (
    "<|startofcontext|> <|startoftranscript|> <|emo:undefined|> <|en|> <|de|> <|pnc|> <|noitn|> <|notimestamp|> "
    "<|nodiarize|>"
).split()
UNWRITTEN = [0, 1, *range(3, 3 + len(PROMPT))]
TOKENS = 3 + len(PROMPT) + 28


def _tiny_streaming() -> PreTrainedModel:
    # The encoder is wider than the decoder, which projects what it reads.
    encoder = SIZES | {"hidden_size": 48, "sliding_windows": ((8, 2), (8, 0)), "num_key_value_heads": 4}
    sizes = SIZES | {"max_position_embeddings": 600, "num_key_value_heads": 4, "pad_head_dim_to_multiple_of": 3}
    config = MoonshineStreamingConfig(vocab_size=31, encoder_config=encoder, decoder_start_token_id=1, **sizes)
    return writing(MoonshineStreamingForConditionalGeneration(config))


@cache
def _streaming_processor() -> ProcessorMixin:
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    return MoonshineStreamingProcessor(extractor, letters_tokenizer())


ENCODER = SIZES | {
    "subsampling_conv_channels": 8,
    "num_mel_bins": 80,
    "layerdrop": 0.0,
    "model_type": "parakeet_encoder",
}


def _tiny_cohere() -> PreTrainedModel:
    config = CohereAsrConfig(
        vocab_size=TOKENS,
        encoder_config=ENCODER | {"hidden_size": 48},
        pad_token_id=2,
        eos_token_id=2,
        bos_token_id=1,
        max_position_embeddings=64,
        **SIZES,
    )
    model = CohereAsrForConditionalGeneration(config)
    return writing(model, max_length=24, suppress_tokens=UNWRITTEN, language="en")


@cache
def _cohere_processor() -> ProcessorMixin:
    return CohereAsrProcessor(CohereAsrFeatureExtractor(feature_size=80), letters_tokenizer(*PROMPT))


def _tiny_canary() -> PreTrainedModel:
    tokens = {"pad_token_id": 2, "eos_token_id": 2, "bos_token_id": 1}
    decoder = (
        SIZES | tokens | {"num_key_value_heads": 4, "head_dim": 8, "vocab_size": TOKENS, "max_position_embeddings": 64}
    )
    config = CanaryConfig(
        vocab_size=TOKENS, encoder_config=ENCODER, decoder_config=decoder, decoder_start_token_id=3, **tokens
    )
    model = CanaryForConditionalGeneration(config)
    return writing(model, max_length=24, suppress_tokens=UNWRITTEN, language="en")


TEMPLATE = (
    "{%- for message in messages -%}{%- for part in message['content'] -%}{%- if part['type'] == 'text' -%}"
    "<|startofcontext|><|startoftranscript|><|emo:undefined|><|{{ part['source_language'] }}|>"
    "<|{{ part['target_language'] }}|><|pnc|>{%- endif -%}{%- endfor -%}{%- endfor -%}"
)


@cache
def _canary_processor() -> ProcessorMixin:
    return CanaryProcessor(ParakeetFeatureExtractor(), letters_tokenizer(*PROMPT), chat_template=TEMPLATE)


def _tiny_lasr() -> PreTrainedModel:
    encoder = SIZES | {"subsampling_conv_channels": 8, "num_mel_bins": 80, "layerdrop": 0.0, "conv_kernel_size": 7}
    return LasrForCTC(LasrCTCConfig(vocab_size=30, pad_token_id=29, encoder_config=encoder))


@cache
def _lasr_processor() -> ProcessorMixin:
    return LasrProcessor(LasrFeatureExtractor(feature_size=80), tiny_parakeet_processor().tokenizer)


def _tiny_granite() -> PreTrainedModel:
    sizes = SIZES | {"num_hidden_layers": 6, "num_mel_bins": 20, "context_size": 6, "max_position_embeddings": 8}
    encoder = sizes | {"vocab_size": 30, "subsample_layers": [0, 1]}
    return GraniteSpeech5ForCTC(GraniteSpeech5CTCConfig(vocab_size=30, pad_token_id=29, encoder_config=encoder))


@cache
def _granite_processor() -> ProcessorMixin:
    # Granite's own extractor needs torchaudio; this one makes features of that shape.
    extractor = ParakeetFeatureExtractor(feature_size=80, delta_expansion=2, frame_stacking=2)
    return ParakeetProcessor(extractor, tiny_parakeet_processor().tokenizer, decoder_type="ctc")


RELATIVES = {
    "moonshine-streaming": Family(
        _tiny_streaming, _streaming_processor, AutoModelForSpeechSeq2Seq, {"generate_kwargs": ONE_BEAM}
    ),
    "cohere-asr": Family(_tiny_cohere, _cohere_processor, AutoModelForSpeechSeq2Seq, None),
    "canary": Family(_tiny_canary, _canary_processor, AutoModelForSpeechSeq2Seq, None),
    "lasr": Family(_tiny_lasr, _lasr_processor),
    "granite-speech5": Family(_tiny_granite, _granite_processor),
}
