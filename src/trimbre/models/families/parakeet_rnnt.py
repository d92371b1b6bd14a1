"""Parakeet RNN-T: the encoder of Parakeet CTC, and a recurrent neural network transducer."""

from trimbre.models.families.parakeet import FORMS, anatomy
from trimbre.models.families.registry import Family
from trimbre.models.heads.transducer import RNNT

FAMILY = Family(
    name="parakeet-rnnt",
    classes=("ParakeetForRNNT",),
    head=RNNT(lengths="_get_subsampling_output_length", masks_padding=True),
    anatomy=anatomy,
    runtimes=("onnx", "onnx-asr", "sherpa-onnx"),
    forms=FORMS,
)
