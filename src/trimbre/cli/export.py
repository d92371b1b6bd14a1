"""`trimbre export`: a model in the form that a runtime loads."""

from pathlib import Path

from trimbre.cli.console import AllowOutside, Json, Seed, app, show


@app.command(
    help_epilogue="""Examples:

    trimbre export half --to onnx --out half-onnx

    trimbre export half --to sherpa-onnx --precision int8 --data data/mine/dev \\
        --out half-sherpa

    trimbre export half-whisper --to onnx-asr --out half-asr

    trimbre export half --to onnx-asr --precision int8 --calibrate data/mine/train \\
        --data data/mine/dev --tolerance 0.3 --out half-asr"""
)
def export(
    model: str,
    /,
    *,
    to: str,
    out: Path,
    precision: str = "fp32",
    calibrate: str | None = None,
    data: str | None = None,
    tolerance: float = 0.5,
    normalize: str = "basic",
    allow_outside: AllowOutside = False,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Write a model, dense or pruned, for ONNX Runtime, sherpa-onnx or onnx-asr; what is written equals the model.

    Parameters
    ----------
    model
        Directory or hub name.
    to
        onnx (any model), onnx-asr (Parakeet models and Whispers) or sherpa-onnx (Parakeet models).
    out
        Directory to write to.
    precision
        fp32 or int8.
    calibrate
        Manifest or folder of speech that fixes the ranges of int8 activations, for CTC models; otherwise every call
        takes its own.
    data
        Manifest or folder with transcripts, to measure the WER of fp32 and int8 on.
    tolerance
        Points of WER that int8 may be worse by on the data; a worse one isn't written.
    normalize
        How both sides are brought into one form: none, basic or whisper-en.
    """
    from trimbre.exporting import export as exporting
    from trimbre.report.terminal import models

    found = exporting.export(
        model=model,
        to=to,
        out=out,
        precision=precision,
        calibrate=calibrate,
        data=data,
        tolerance=tolerance,
        normalize=normalize,
        allow_outside=allow_outside,
    )
    return show(found, json, *models.exported(found))
