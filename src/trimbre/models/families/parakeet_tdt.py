"""Parakeet TDT: the encoder of Parakeet CTC, and a transducer that predicts tokens and durations."""

from trimbre.models.families.parakeet import FORMS, anatomy
from trimbre.models.families.registry import Family
from trimbre.models.heads.transducer import TDT

FAMILY = Family(
    name="parakeet-tdt",
    classes=("ParakeetForTDT",),
    head=TDT(lengths="_get_subsampling_output_length", masks_padding=True),
    anatomy=anatomy,
    runtimes=("onnx", "onnx-asr", "sherpa-onnx"),
    forms=FORMS,
)
