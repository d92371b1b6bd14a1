"""Importing this module lets transformers' Auto classes load Trimbre's checkpoints as they are."""

from transformers import AutoModelForCTC, ParakeetCTCConfig

from trimbre.modeling_trimbre import ParakeetForCTC

AutoModelForCTC.register(ParakeetCTCConfig, ParakeetForCTC, exist_ok=True)
