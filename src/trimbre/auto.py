"""Importing this module lets transformers' Auto classes load Trimbre's checkpoints as they are."""

from transformers import (
    AutoModelForCTC,
    AutoModelForSpeechSeq2Seq,
    ParakeetCTCConfig,
    Wav2Vec2ConformerConfig,
    WhisperConfig,
)

from trimbre.models.modeling_trimbre import ParakeetForCTC, Wav2Vec2ConformerForCTC, WhisperForConditionalGeneration

AutoModelForCTC.register(ParakeetCTCConfig, ParakeetForCTC, exist_ok=True)
AutoModelForCTC.register(Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC, exist_ok=True)
AutoModelForSpeechSeq2Seq.register(WhisperConfig, WhisperForConditionalGeneration, exist_ok=True)
