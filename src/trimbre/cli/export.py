"""`trimbre export`: models for inference runtimes."""

from pathlib import Path

from trimbre.cli.console import AllowOutside, Json, Language, app, show


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
    language: Language = None,
    task: str | None = None,
    allow_outside: AllowOutside = False,
    json: Json = False,
) -> int:
    """Export a model, dense or pruned, for ONNX Runtime, sherpa-onnx or onnx-asr, and check that its output is equal.

    Parameters
    ----------
    model
        Directory, or OWNER/NAME[@REVISION] on the Hub.
    to
        onnx (CTC models, transducers and Whispers), onnx-asr (Parakeet models and Whispers) or sherpa-onnx (Parakeet
        models).
    out
        Directory to write to.
    precision
        fp32 or int8.
    calibrate
        Speech (manifest or folder) to calibrate static int8 activation ranges on, for CTC models; dynamic by default.
    data
        Transcribed data (manifest or folder) to measure the WER of fp32 and int8 on.
    tolerance
        Increase of the WER on the data, in points, that int8 may cause; above it nothing is written.
    normalize
        Text normalisation of transcripts and hypotheses: none, basic, whisper, whisper-en or open-asr.
    task
        transcribe, or translate (multilingual Whispers, to onnx); the model's preset task by default.
    """
    from trimbre.exporting import export as exporting
    from trimbre.report.terminal import models

    found = exporting.export(
        model,
        to=to,
        out=out,
        precision=precision,
        calibrate=calibrate,
        data=data,
        tolerance=tolerance,
        normalize=normalize,
        language=language,
        task=task,
        allow_outside=allow_outside,
    )
    return show(found, json, *models.exported(found))
