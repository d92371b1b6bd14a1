"""Making a decoding graph: from sentences or an ARPA file, and a model's vocabulary, to a folder."""

import json
import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from trimbre.data.cuts import read_cuts, transcript_of
from trimbre.data.splits import SPLITS, sentences_in
from trimbre.data.text import labels_of, normalise
from trimbre.decoding import blank_id
from trimbre.errors import UserError
from trimbre.files import NoRoom, directory_written_whole, refuse_existing
from trimbre.graphs import (
    DESCRIPTION,
    NETWORK,
    WORDS,
    GraphReport,
    fingerprint,
    refuse_decoder,
    require_packages,
    sha256,
)
from trimbre.graphs.ngrams import NGrams, estimate, read_arpa
from trimbre.models import load
from trimbre.options import at_least

ORDER = 3
WEIGHT = 0.4
NOTHING_SAID = "<eps>"
"""What OpenFst calls the label 0."""


def make_graph(
    *,
    model: str,
    out: Path,
    sentences: Path | None = None,
    splits: Collection[str] = (),
    transcripts: str | None = None,
    arpa: Path | None = None,
    order: int | None = None,
    weight: float = WEIGHT,
    normalize: str = "basic",
    allow_outside: bool = False,
) -> GraphReport:
    """Write the decoding graph of a CTC model and n-grams of words.

    Args:
        model: directory or hub name; only its vocabulary counts, so what is pruned from it takes the same graph.
        sentences: a text file, one sentence a line.
        splits: which splits of the sentences to read, by a hash of each (`trimbre.data.splits`); all if there are none.
        transcripts: a corpus whose transcripts are sentences too. What is judged on does not belong here.
        arpa: n-grams that were estimated elsewhere, in place of sentences and transcripts.
        order: words that an n-gram has at most; 3 by default, and as many as an ARPA file has.
        weight: what the n-grams count beside the model: their costs are multiplied by it.
        normalize: `none`, `basic` or `whisper-en`, as in `trimbre.evaluate`. An ARPA file's words are written as they
            are, and spelled as their normal form is.

    Raises:
        UserError: bad input, or a model with a decoder, which takes no graph.
    """
    at_least("order", 1 if order is None else order, 1)
    at_least("weight", weight, 0)
    if math.isinf(weight):
        raise UserError("--weight inf: give a number such as 0.4")
    if arpa is not None and (sentences is not None or transcripts is not None or order is not None):
        raise UserError("--arpa holds n-grams already: leave --sentences, --transcripts and --order out")
    if arpa is None and sentences is None and transcripts is None:
        raise UserError("a graph needs words: give --sentences FILE or --transcripts CUTS or both, or --arpa FILE")
    if splits and sentences is None:
        raise UserError("--splits chooses among the lines of --sentences: give that, or leave it out")
    require_packages()
    refuse_existing(out, mark=NETWORK)
    recogniser = load(model)
    refuse_decoder(recogniser, model)
    said = [] if sentences is None else [line for line, _ in sentences_in(sentences, splits or SPLITS)]
    if transcripts is not None:
        said += [text for cut in read_cuts(transcripts, allow_outside=allow_outside) if (text := transcript_of(cut))]
    said = [text for line in said if (text := normalise(line, normalize).strip())]
    if arpa is None and not said:
        raise UserError(f"--transcripts {transcripts}: there are none; give recordings with transcripts")
    ngrams = estimate(said, order or ORDER) if arpa is None else read_arpa(arpa)
    spellings = _spellings(ngrams, recogniser.processor, normalize)
    left_out = [word for word in ngrams.words if word not in spellings]
    if not spellings:
        example = f", such as {left_out[0]!r}" if left_out else ""
        raise UserError(f"the vocabulary of {model} spells none of the words{example}: give others")
    report = GraphReport(
        out=str(out),
        model=model,
        order=ngrams.order,
        weight=weight,
        words=len(spellings),
        ngrams=sum(map(len, ngrams.costs.values())),
        sentences=None if arpa else len(said),
        left_out=left_out,
        normalize=None if arpa else normalize,
        space=_space(recogniser.processor),
        labels=fingerprint(recogniser),
        files={},
    )
    from trimbre.graphs.network import network

    made = network(ngrams, spellings, weight=weight, blank=blank_id(recogniser.model), space=report.space)
    with directory_written_whole(out) as folder:
        if not made.write(str(folder / NETWORK)):  # the library says why on stderr
            raise NoRoom(out, f"{NETWORK} could not be written")
        listed = [NOTHING_SAID, *sorted(spellings)]
        (folder / WORDS).write_text("".join(f"{word} {place}\n" for place, word in enumerate(listed)))
        report = replace(report, files={name: sha256(folder / name) for name in (NETWORK, WORDS)})
        (folder / DESCRIPTION).write_text(json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n")
    return report


def _spellings(ngrams: NGrams, processor: Any, normalize: str) -> dict[str, list[int]]:
    """The labels of every word that the tokenizer can spell."""
    tokenizer = processor.tokenizer
    spelled = {word: labels_of(word, processor=processor, normalize=normalize) for word in ngrams.words}
    return {word: labels for word, labels in spelled.items() if labels and tokenizer.unk_token_id not in labels}


def _space(processor: Any) -> int | None:
    """The label between words, for a vocabulary of letters; None for pieces that tell where a word begins."""
    return processor.tokenizer.get_vocab().get(getattr(processor.tokenizer, "word_delimiter_token", None))
