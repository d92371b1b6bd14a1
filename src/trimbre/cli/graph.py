"""`trimbre graph`: what may be said, as a graph that a recogniser decodes by."""

from pathlib import Path

from trimbre.cli.console import AllowOutside, Json, Seed, app, show


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
    allow_outside: AllowOutside = False,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Words and n-grams as a decoding graph, for eval and transcribe --graph: for models with a CTC head.

    Only these words can be recognised by it. What is pruned from a model takes the model's graph.

    Parameters
    ----------
    model
        Directory or hub name; only its vocabulary counts.
    out
        Folder to write to: an OpenFst file, its words, and what it was made from.
    sentences
        A text file of what may be said, one sentence a line.
    splits
        Read only the sentences of these splits (train, dev, test), which a hash of each decides; all by default.
    transcripts
        Manifest or folder whose transcripts are such sentences too; several joined by commas.
    arpa
        N-grams that KenLM or SRILM wrote, in place of sentences.
    order
        Words that an n-gram has at most; 3 by default, and as many as an ARPA file has.
    weight
        What n-grams count beside the model: 0 leaves the words alone.
    normalize
        How sentences are brought into the form of transcripts: none, basic or whisper-en.
    """
    from trimbre.inference.graph.build import make_graph
    from trimbre.report.terminal import models

    made = make_graph(
        model=model,
        out=out,
        sentences=sentences,
        splits=splits,
        transcripts=transcripts,
        arpa=arpa,
        order=order,
        weight=weight,
        normalize=normalize,
        allow_outside=allow_outside,
    )
    return show(made.to_json(), json, *models.graph(made))
