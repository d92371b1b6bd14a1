"""`trimbre convert`: models of other toolkits as directories that Trimbre and transformers read."""

from pathlib import Path

from cyclopts import App

from trimbre.cli.console import Json, app, show

convert = App(name="convert", help="Convert models of other toolkits to directories that transformers reads.")
app.command(convert)


@convert.command(
    help_epilogue="""Example:

    trimbre convert ctranslate2 faster-whisper-tiny.en --out tiny.en"""
)
def ctranslate2(source: Path, /, *, out: Path, json: Json = False) -> int:
    """Convert a CTranslate2 Whisper (model.bin, tokenizer.json, maybe config.json), the format of faster-whisper.

    Parameters
    ----------
    source
        Directory that holds them.
    out
        Directory to write the model and its processor to.
    """
    from trimbre.models.convert.ctranslate2 import convert as convert_ctranslate2

    made = convert_ctranslate2(source=source, out=out)
    languages = "multilingual" if made.multilingual else "English-only"
    stored = made.to_json()["dtype"]
    return show(made.to_json(), json, f"{out}: {languages} Whisper, {made.parameters:,} parameters, {stored}")
