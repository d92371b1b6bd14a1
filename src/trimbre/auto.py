"""Importing this module lets transformers' Auto classes load Trimbre's checkpoints as they are."""

from transformers import AutoModelForCTC, ParakeetCTCConfig, Wav2Vec2ConformerConfig

from trimbre.modeling_trimbre import ParakeetForCTC, Wav2Vec2ConformerForCTC

AutoModelForCTC.register(ParakeetCTCConfig, ParakeetForCTC, exist_ok=True)
AutoModelForCTC.register(Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC, exist_ok=True)
