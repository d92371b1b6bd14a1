"""Building a decoding graph from sentences or an ARPA file and a model's vocabulary."""

import json
import math
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import ProcessorMixin

from trimbre.data.cuts import CutsLike, transcript_of
from trimbre.data.language import Languages
from trimbre.data.source import resolve_cuts
from trimbre.data.splits import SPLITS, sentences_in
from trimbre.data.text import labels_of, normalise
from trimbre.errors import OptionError, UserError, at_least
from trimbre.files import NoRoom, directory_written_whole, refuse_existing
from trimbre.inference.graph.decoder import (
    DESCRIPTION,
    NETWORK,
    WORDS,
    GraphReport,
    fingerprint,
    refuse_decoder,
    require_packages,
    sha256,
)
from trimbre.inference.graph.ngrams import NGrams, estimate, read_arpa
from trimbre.models.heads.ctc import blank_id
from trimbre.models.source import ModelLike, resolve_model

ORDER = 3
WEIGHT = 0.4
EPSILON = "<eps>"
"""OpenFst's name of label 0."""


def make_graph(
    model: ModelLike,
    processor: ProcessorMixin | None = None,
    *,
    out: str | Path,
    sentences: str | Path | None = None,
    splits: Collection[str] = (),
    transcripts: CutsLike | None = None,
    arpa: str | Path | None = None,
    order: int | None = None,
    weight: float = WEIGHT,
    normalize: str = "basic",
    language: str | None = None,
    allow_outside: bool = False,
) -> GraphReport:
    """Write the decoding graph of a CTC model and n-grams of words.

    Args:
        model: directory, name on the Hub, or a model in memory with its `processor`; only its vocabulary is used, so
            that a pruned model takes the same graph.
        sentences: a text file, one sentence a line.
        splits: splits of the sentences to read, by a hash of each (`trimbre.data.splits`); all by default.
        transcripts: a corpus whose transcripts are sentences too; evaluation data do not belong here.
        arpa: ARPA file with n-grams, in place of sentences and transcripts.
        order: words of the longest n-gram; 3 by default, or the order of the ARPA file.
        weight: weight of the language model: the costs of n-grams are multiplied by it.
        normalize: `none`, `basic`, `whisper`, `whisper-en` or `open-asr`, as in `trimbre.evaluate`. An ARPA file's
            words are written as they are, and spelled as their normal form is.
        language: of sentences, and of transcripts that do not state one; by default the model's own language.

    Raises:
        UserError: bad input, or a model with a decoder, which takes no graph.
    """
    at_least("order", 1 if order is None else order, 1)
    at_least("weight", weight, 0)
    if math.isinf(weight):
        raise OptionError("weight", weight, "give a number such as 0.4")
    if arpa is not None and (sentences is not None or transcripts is not None or order is not None):
        given = {"sentences": sentences, "transcripts": transcripts, "order": order}
        named = " and ".join(name for name, value in given.items() if value is not None)
        raise OptionError("arpa", str(arpa), f"it holds n-grams already, so that {named} cannot count: leave it out")
    if arpa is None and sentences is None and transcripts is None:
        raise UserError("a graph needs words: give sentences, transcripts or both, or n-grams as arpa")
    if splits and sentences is None:
        raise OptionError("splits", tuple(splits), "it chooses among sentences, and none are given: leave it out")
    require_packages()
    out = Path(out)
    refuse_existing(out, mark=NETWORK, model=model)
    source = resolve_model(model, processor)
    recogniser = source.recogniser
    refuse_decoder(recogniser, "model", source.name)
    languages = Languages.of(language, recogniser)
    text = languages.text
    lines = (
        []
        if sentences is None
        else [(line, text) for line, _ in sentences_in(Path(sentences), splits or SPLITS, language=text)]
    )
    if transcripts is not None:
        cuts = resolve_cuts("transcripts", transcripts, allow_outside=allow_outside, repeated=True).cuts
        lines += [(line, languages.written(cut)) for cut in cuts if (line := transcript_of(cut))]
    plain = [found for line, code in lines if (found := normalise(line, normalize, language=code).strip())]
    if arpa is None and not plain:
        of = " and ".join(str(one) for one in (sentences, transcripts) if isinstance(one, str | Path))
        raise UserError(
            f"there is no sentence to estimate n-grams from{of and f' in {of}'}: give sentences, or recordings with "
            "transcripts"
        )
    ngrams = estimate(plain, order or ORDER) if arpa is None else read_arpa(Path(arpa))
    spellings = _spellings(ngrams, recogniser.processor, normalize, text)
    left_out = [word for word in ngrams.words if word not in spellings]
    if not spellings:
        example = f", such as {left_out[0]!r}" if left_out else ""
        places = [str(one) for one in (sentences, transcripts, arpa) if isinstance(one, str | Path)]
        of = " and ".join(places) or "the transcripts"
        raise UserError(f"the vocabulary of {source.name} spells none of the words of {of}{example}: give others")
    report = GraphReport(
        out=str(out),
        model=source.name,
        order=ngrams.order,
        weight=weight,
        words=len(spellings),
        ngrams=sum(map(len, ngrams.costs.values())),
        sentences=None if arpa else len(plain),
        left_out=left_out,
        normalize=None if arpa else normalize,
        space=_space(recogniser.processor),
        labels=fingerprint(recogniser),
        files={},
    )
    from trimbre.inference.graph.network import network

    made = network(ngrams, spellings, weight=weight, blank=blank_id(recogniser.model), space=report.space)
    with directory_written_whole(out) as folder:
        if not made.write(str(folder / NETWORK)):  # kaldifst prints the reason to stderr
            raise NoRoom(out, f"{NETWORK} could not be written")
        listed = [EPSILON, *sorted(spellings)]
        (folder / WORDS).write_text("".join(f"{word} {place}\n" for place, word in enumerate(listed)))
        report = replace(report, files={name: sha256(folder / name) for name in (NETWORK, WORDS)})
        (folder / DESCRIPTION).write_text(json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n")
    return report


def _spellings(ngrams: NGrams, processor: Any, normalize: str, language: str | None) -> dict[str, list[int]]:
    """The labels of every word that the tokenizer can spell."""
    tokenizer = processor.tokenizer
    spell = partial(labels_of, processor=processor, normalize=normalize, language=language)
    spelled = {word: spell(word) for word in ngrams.words}
    return {word: labels for word, labels in spelled.items() if labels and tokenizer.unk_token_id not in labels}


def _space(processor: Any) -> int | None:
    """The label between words, for a vocabulary of letters; None for word pieces, which mark where a word begins."""
    return processor.tokenizer.get_vocab().get(getattr(processor.tokenizer, "word_delimiter_token", None))
