"""`trimbre graph`: decoding graphs of words and n-grams."""

from pathlib import Path

from trimbre.cli.console import AllowOutside, Json, Language, app, show


@app.command(
    help_epilogue="""Examples:

    trimbre graph models/telephone-en --sentences menu.txt --out menu

    trimbre graph MODEL --transcripts data/mine/train --order 4 --out mine

    trimbre graph MODEL --arpa 3gram.arpa --weight 0.3 --out open"""
)
def graph(
    model: str,
    /,
    *,
    out: Path,
    sentences: Path | None = None,
    splits: tuple[str, ...] = (),
    transcripts: str | None = None,
    arpa: Path | None = None,
    order: int | None = None,
    weight: float = 0.4,
    normalize: str = "basic",
    language: Language = None,
    allow_outside: AllowOutside = False,
    json: Json = False,
) -> int:
    """Build a decoding graph from words and n-grams, for eval --graph and transcribe --graph of CTC models.

    Only the words of the graph can be recognised. A pruned model takes the graph of its dense model.

    Parameters
    ----------
    model
        Directory, or OWNER/NAME[@REVISION] on the Hub; only its vocabulary is used.
    out
        Folder to write to: an OpenFst file, its words, and what it was made from.
    sentences
        A text file of sentences, one a line.
    splits
        Read only the sentences of these splits (train, dev, test), which a hash of each decides; all by default.
    transcripts
        Manifest or folder whose transcripts are used as sentences; several joined by commas.
    arpa
        N-grams in ARPA form, as KenLM and SRILM write them, in place of sentences.
    order
        Longest n-gram, in words; 3 by default, and what an ARPA file holds.
    weight
        Weight of the n-grams beside the acoustic model; 0 uses the list of words alone.
    normalize
        Text normalisation of sentences: none, basic, whisper, whisper-en or open-asr.
    """
    from trimbre.inference.graph.build import make_graph
    from trimbre.report.terminal import models

    made = make_graph(
        model,
        out=out,
        sentences=sentences,
        splits=splits,
        transcripts=transcripts,
        arpa=arpa,
        order=order,
        weight=weight,
        normalize=normalize,
        language=language,
        allow_outside=allow_outside,
    )
    return show(made.to_json(), json, *models.graph(made))
